"""The review page: a Flask application for one person on their own machine. `webapp/app.py` serves it."""
