// Keys for the arena: a letter presses the button that shows it, while that button can be seen and pressed and nobody is typing.
(() => {
  const BUTTONS = { a: "pg-vote-a", b: "pg-vote-b", t: "pg-vote-tie", x: "pg-vote-both-bad", n: "pg-arena-next" };
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable], [role=listbox]")) return;
    const button = document.getElementById(BUTTONS[event.key.toLowerCase()]);
    if (button && !button.disabled && button.offsetParent) {
      event.preventDefault();
      button.click();
    }
  });
})();
