"""The shop itself: its own views and its own lifespan. Nothing here knows about a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel

BOOKS: dict[int, dict[str, str | float]] = {
    1: {"title": "The Soul of a New Machine", "price_eur": 14.5},
    2: {"title": "A Pattern Language", "price_eur": 62.0},
    3: {"title": "Where Wizards Stay Up Late", "price_eur": 12.0},
}
ORDERS: list[Order] = []

views = APIRouter()


class Order(BaseModel):
    """What a customer wants."""

    book: int
    copies: int = 1


@asynccontextmanager
async def open_shop(app: FastAPI) -> AsyncIterator[None]:
    """The lifespan the app had before."""
    print("The shop opens.", flush=True)
    yield
    print(f"The shop closes after {len(ORDERS)} orders.", flush=True)


@views.get("/books")
def books() -> dict[int, dict[str, str | float]]:
    """The catalogue."""
    return BOOKS


@views.get("/books/{number}")
async def book(number: int) -> dict[str, str | float]:
    """One book."""
    if number not in BOOKS:
        raise HTTPException(404, "There is no such book.")
    return BOOKS[number]


@views.post("/orders", status_code=201)
async def order(wanted: Order, request: Request) -> dict[str, str | int]:
    """Order a book."""
    if wanted.book not in BOOKS:
        raise HTTPException(404, "There is no such book.")
    ORDERS.append(wanted)
    return {"order": len(ORDERS), "see": str(request.url_for("book", number=wanted.book))}
