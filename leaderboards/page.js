"use strict";
const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);
const all = (query, within = document) => [...within.querySelectorAll(query)];
const say = language => {
  root.lang = language;
  all("option[data-zh]").forEach(option => { option.textContent = option.dataset[language]; });
  draw();
};
const shade = theme => { root.dataset.theme = theme; draw(); };

document.getElementById("language").onclick = () => say(root.lang === "zh" ? "en" : "zh");
document.getElementById("theme").onclick = () => shade(root.dataset.theme === "dark" ? "light" : "dark");

const tabs = all('[role="tab"]');
const open = tab => {
  tabs.forEach(each => {
    each.setAttribute("aria-selected", each === tab);
    document.getElementById(each.getAttribute("aria-controls")).hidden = each !== tab;
  });
  draw();
};
tabs.forEach((tab, place) => {
  tab.onclick = () => open(tab);
  tab.onkeydown = event => {
    const next = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (next) { const other = tabs[(place + next + tabs.length) % tabs.length]; other.focus(); open(other); }
  };
});

all(".choose").forEach(select => {
  select.onchange = () => all(".grid", select.closest("section")).forEach(grid => { grid.hidden = grid.id !== select.value; });
});
all(".filter").forEach(input => {
  input.oninput = () => {
    const wanted = input.value.toLowerCase();
    all("tbody tr", input.closest("section")).forEach(row => {
      row.hidden = !`${row.dataset.group} ${row.firstElementChild.textContent}`.toLowerCase().includes(wanted);
    });
  };
});
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
        if (column === 0) return sign * a.textContent.localeCompare(b.textContent);
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
async function draw() {
  const shown = all("[data-plot]").filter(figure => !figure.closest("section").hidden);
  if (!shown.length) return;
  const Plotly = await plotly();
  const style = getComputedStyle(root);
  const [ink, line] = ["--ink", "--line"].map(name => style.getPropertyValue(name));
  for (const figure of shown) {
    const { data, layout } = structuredClone(figures[figure.dataset.plot][root.lang]);
    layout.font = { color: ink, family: "system-ui, sans-serif" };
    for (const axis of ["xaxis", "yaxis"]) Object.assign(layout[axis] ??= {}, { gridcolor: line, zerolinecolor: line, linecolor: line });
    if (layout.polar) layout.polar = { bgcolor: "rgba(0,0,0,0)", radialaxis: { range: [0, 100], gridcolor: line }, angularaxis: { gridcolor: line } };
    Plotly.react(figure.querySelector(".plot"), data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}
const cell = text => /[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text;
const safe = text => typeof text === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
function table(plot) {
  const rows = [["trace", "label", "x", "y"]];
  for (const trace of plot.data) {
    const [x, y] = [trace.x ?? trace.theta, trace.y ?? trace.r];
    [...x].forEach((each, k) => rows.push([safe(trace.name ?? ""), safe(trace.text?.[k] ?? ""), safe(each), safe(y[k])]));
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
    if (button.dataset.save === "csv") return save(table(plot), `${name}.csv`);
    (await plotly()).downloadImage(plot, { format: button.dataset.save, filename: name, width: 1000, height: 600 });
  };
});

root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
say(navigator.language.startsWith("zh") ? "zh" : "en");
