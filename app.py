"""What a Space runs, and what `python app.py` starts: the playground."""

from playground.cli import main

if __name__ == "__main__":
    main()
