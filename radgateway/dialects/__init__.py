"""The languages the gateway speaks with its callers and with providers."""

from radgateway.dialects.anthropic import AnthropicMessages
from radgateway.dialects.base import Ask, Dialect, Event
from radgateway.dialects.gemini import Gemini
from radgateway.dialects.openai import OpenAI, OpenAIChat, OpenAIResponses

__all__ = [
    "AnthropicMessages",
    "Ask",
    "Dialect",
    "Event",
    "Gemini",
    "OpenAI",
    "OpenAIChat",
    "OpenAIResponses",
]
