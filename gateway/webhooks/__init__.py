"""Events on their way to a backend's URL, as signed requests (https://www.standardwebhooks.com)."""
