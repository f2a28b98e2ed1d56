"use strict";
const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);
const all = (query, within = document) => [...within.querySelectorAll(query)];

/* What is chosen stands in the address, so that a view can be linked to and outlives a reload. */
const state = new URLSearchParams(location.hash.slice(1));
const keep = (name, value) => {
  if (value) state.set(name, value); else state.delete(name);
  history.replaceState(null, "", `#${state}`);
};

/* A page around this one, the playground's, calls show() with what it wears itself. */
function show(language, theme) {
  root.lang = language;
  root.dataset.theme = theme;
  all("option[data-zh]").forEach(option => { option.textContent = option.dataset[language]; });
  all("input[data-zh]").forEach(input => { input.placeholder = input.dataset[language]; });
  draw();
}
const onClick = (id, action) => { const button = document.getElementById(id); if (button) button.onclick = action; };
onClick("language", () => show(root.lang === "zh" ? "en" : "zh", root.dataset.theme));
onClick("theme", () => show(root.lang, root.dataset.theme === "dark" ? "light" : "dark"));

const tabs = all('[role="tab"]');
const open = tab => {
  tabs.forEach(each => {
    each.setAttribute("aria-selected", each === tab);
    each.tabIndex = each === tab ? 0 : -1;
    document.getElementById(each.getAttribute("aria-controls")).hidden = each !== tab;
  });
};
tabs.forEach((tab, place) => {
  tab.onclick = () => { open(tab); keep("tab", tab.getAttribute("aria-controls")); };
  tab.onkeydown = event => {
    const next = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (next) { const other = tabs[(place + next + tabs.length) % tabs.length]; other.focus(); other.click(); }
  };
});

const restored = (control, name, act) => {
  const key = `${name}-${control.closest("section").id}`;
  control.addEventListener("input", () => { act(); keep(key, control.value); });
  const value = state.get(key);
  if (value === null || (control.options && !all("option", control).some(option => option.value === value))) return;
  control.value = value;
  act();
};
all(".choose").forEach(select => restored(select, "table", () => {
  all(".grid", select.closest("section")).forEach(grid => { grid.hidden = grid.id !== select.value; });
}));
all(".filter").forEach(input => restored(input, "filter", () => {
  const wanted = input.value.toLowerCase();
  all("tbody tr", input.closest("section")).forEach(row => {
    row.hidden = !`${row.dataset.group} ${row.firstElementChild.textContent}`.toLowerCase().includes(wanted);
  });
}));
all(".columns").forEach(select => restored(select, "columns", () => {
  const table = select.closest("section").querySelector("table");
  const groups = all("thead th", table).map(head => head.dataset.group);
  all("tr", table).forEach(row => {
    [...row.children].forEach((cell, column) => { cell.hidden = Boolean(select.value && groups[column] && groups[column] !== select.value); });
  });
}));
all("table").forEach(table => {
  const body = table.querySelector("tbody");
  const heads = all("thead th", table);
  heads.forEach((head, column) => {
    head.querySelector("button").onclick = () => {
      const first = column === 0 || "lower" in head.dataset ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach(each => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compare = (left, right) => {
        const [a, b] = [left, right].map(row => row.children[column]);
        if (column === 0) return sign * a.innerText.localeCompare(b.innerText);
        const [x, y] = [a, b].map(cell => cell.dataset.value);
        return (x === "") - (y === "") || sign * (x - y);
      };
      body.append(...[...body.children].sort(compare));
    };
  });
});

let loading = null;
const plotly = () => loading ??= new Promise((done, failed) => {
  const script = document.createElement("script");
  script.src = PLOTLY;
  script.onload = () => done(window.Plotly);
  script.onerror = failed;
  document.head.append(script);
});
/* A plot is drawn when it is scrolled to, and again when the language or the colours have changed since. */
const near = new Set();
const drawn = new WeakMap();
const watcher = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) near[isIntersecting ? "add" : "delete"](target);
  draw();
}, { rootMargin: "300px" });
all("[data-plot]").forEach(figure => watcher.observe(figure));
/* Plotly takes tags in names and labels for markup; here they are text. */
const inert = value => {
  if (typeof value === "string") return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  if (Array.isArray(value)) return value.map(inert);
  return value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, inert(each)])) : value;
};
async function draw() {
  const style = getComputedStyle(root);
  const [ink, line] = ["--ink", "--line"].map(name => style.getPropertyValue(name));
  const look = `${root.lang} ${root.dataset.theme}`;
  for (const figure of near) {
    if (drawn.get(figure) === look) continue;
    drawn.set(figure, look);
    const { data, layout } = inert(figures[figure.dataset.plot][root.lang]);
    layout.font = { color: ink, family: "system-ui, sans-serif" };
    for (const axis of ["xaxis", "yaxis"]) Object.assign(layout[axis] ??= {}, { gridcolor: line, zerolinecolor: line, linecolor: line });
    if (layout.polar) layout.polar = { bgcolor: "rgba(0,0,0,0)", radialaxis: { range: [0, 100], gridcolor: line }, angularaxis: { gridcolor: line } };
    (await plotly()).react(figure.querySelector(".plot"), data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}
const cell = text => /[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text;
const safe = text => typeof text === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
function table(plot) {
  const rows = [["trace", "label", "x", "y", "low", "high"]];
  const ends = (value, error, k) => error?.array ? [value - error.arrayminus[k], value + error.array[k]] : null;
  for (const trace of plot.data) {
    const [x, y] = [trace.x ?? trace.theta, trace.y ?? trace.r];
    [...x].forEach((each, k) => rows.push([safe(trace.name ?? ""), safe(trace.text?.[k] ?? ""), safe(each), safe(y[k]), ...(ends(y[k], trace.error_y, k) ?? ends(each, trace.error_x, k) ?? ["", ""])]));
  }
  return rows.map(row => row.map(cell).join(",")).join("\n") + "\n";
}
function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
all("[data-save]").forEach(button => {
  button.onclick = async () => {
    const figure = button.closest("[data-plot]");
    const plot = figure.querySelector(".plot");
    const name = figure.dataset.plot;
    if (button.dataset.save === "csv") return save(table(figures[name][root.lang]), `${name}.csv`);
    (await plotly()).downloadImage(plot, { format: button.dataset.save, filename: name, width: 1000, height: 600 });
  };
});

open(tabs.find(tab => tab.getAttribute("aria-controls") === state.get("tab")) ?? tabs[0]);
show(navigator.language.startsWith("zh") ? "zh" : "en", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
