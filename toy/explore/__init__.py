"""The lake in the browser: a page on which a person draws a lake and watches the methods train on it."""
