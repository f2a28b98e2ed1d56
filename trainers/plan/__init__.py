"""Will it fit, and how long will it take? Answered before anything is loaded."""
