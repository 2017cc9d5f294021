"use strict";
// The switches for language and theme, and the figures: each is drawn when it comes into sight, in the page's language and colours.
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const seen = new Set();

  function draw(place) {
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const card = style.getPropertyValue("--card").trim();
    const given = figures[place.dataset.figure][root.lang];
    const layout = JSON.parse(JSON.stringify(given.layout));
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, dragmode: false,
      font: {color: ink, size: 13, family: getComputedStyle(document.body).fontFamily},
      hoverlabel: {bgcolor: card, bordercolor: line, font: {color: ink}},
    });
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = Object.assign({gridcolor: line, zerolinecolor: line, linecolor: line, fixedrange: true}, layout[axis]);
    }
    const data = JSON.parse(JSON.stringify(given.data));
    const named = data.filter((trace) => trace.name && trace.showlegend !== false);
    const before = place.previousElementSibling;
    if (before && before.className === "legend") before.remove();
    if (named.length > 1) place.before(legend(named));  // plotly's own takes up to half of a narrow figure
    layout.showlegend = false;
    if (layout.margin && layout.legend) layout.margin.t = 12;
    for (const trace of data) {
      if (trace.type === "sankey") trace.textfont = {color: ink, size: 13, shadow: "none"};
    }
    Plotly.react(place, data, layout, {displayModeBar: false, responsive: true});
  }
  function legend(traces) {
    const list = document.createElement("div");
    list.className = "legend";
    for (const trace of traces) {
      const entry = document.createElement("span");
      const colour = document.createElement("i");
      colour.style.backgroundColor = trace.marker.color;
      if (trace.marker.pattern?.shape) colour.className = "hatched";
      entry.append(colour, trace.name);
      list.append(entry);
    }
    return list;
  }
  const redraw = () => seen.forEach(draw);

  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting && !seen.has(entry.target)) { seen.add(entry.target); draw(entry.target); }
  }), {rootMargin: "300px"});
  document.querySelectorAll(".figure").forEach((place) => watcher.observe(place));
  window.addEventListener("beforeprint", () => document.querySelectorAll(".figure").forEach((place) => {
    if (!seen.has(place)) { seen.add(place); draw(place); }
  }));

  document.getElementById("language").addEventListener("click", () => {
    root.lang = root.lang === "en" ? "zh" : "en";
    document.title = document.querySelector("h1 [lang=" + root.lang + "]").textContent;
    redraw();
  });
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; redraw(); });
  dark.addEventListener("change", redraw);
})();
