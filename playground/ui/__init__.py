"""The page itself: one file per tab. The only modules that import gradio."""
