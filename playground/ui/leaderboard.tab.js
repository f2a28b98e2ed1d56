// The leaderboard's frame wears the page's language and colours, and is loaded again when results or votes have changed.
(() => {
  const EVERY_MS = 10_000;
  const frame = () => document.getElementById("pg-leaderboard");
  const dress = () => {
    const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
    frame()?.contentWindow.show?.(language, document.body.classList.contains("dark") ? "dark" : "light");
  };
  const follow = () => new MutationObserver(dress).observe(document.body, { attributeFilter: ["class"] });
  const look = async () => {
    const seen = frame();
    const version = seen?.offsetParent && !document.hidden && seen.contentDocument?.documentElement.dataset.version;
    if (!version) return;
    const answer = await fetch("leaderboard/version").catch(() => null);
    if (answer?.ok && (await answer.text()) !== version) seen.contentWindow.location.reload();
  };
  document.addEventListener("load", (event) => { if (event.target === frame()) dress(); }, true);
  if (document.body) follow(); else document.addEventListener("DOMContentLoaded", follow);
  setInterval(look, EVERY_MS);
})();
