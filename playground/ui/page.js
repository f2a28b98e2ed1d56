// The two switches in the page's head. What they choose is kept in a cookie, so that the server answers in that language too.
(() => {
  const keep = (name, value) => {
    const inFrames = location.protocol === "https:" ? "; SameSite=None; Secure; Partitioned" : "; SameSite=Lax";
    document.cookie = `${name}=${value}; path=/; max-age=31536000${inFrames}`;
  };
  document.addEventListener("click", (event) => {
    const asked = event.target.closest("[data-pg-language], [data-pg-theme]");
    if (!asked) return;
    if (asked.dataset.pgLanguage) {
      keep("pg-language", asked.dataset.pgLanguage);
      location.reload();
    } else {
      const dark = document.body.classList.toggle("dark");
      keep("pg-theme", dark ? "dark" : "light");
    }
  });
})();
