"""The paths of the articles."""

from __future__ import annotations

from django.urls import path

from articles import views

urlpatterns = [
    path("", views.index, name="articles"),
    path("<int:number>/", views.article, name="article"),
    path("<int:number>/vote/", views.vote, name="vote"),
]
