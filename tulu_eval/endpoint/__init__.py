"""The client of OpenAI-compatible servers, such as a judge or a served model."""
