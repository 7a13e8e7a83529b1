(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const keys = Object.keys(figures);

  function look() {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--text").trim();
    const grid = style.getPropertyValue("--grid").trim();
    const back = style.getPropertyValue("--back").trim();
    return {
      "font.color": text,
      "xaxis.gridcolor": grid, "yaxis.gridcolor": grid,
      "xaxis.linecolor": grid, "yaxis.linecolor": grid,
      "xaxis.zerolinecolor": grid, "yaxis.zerolinecolor": grid,
      "hoverlabel.bgcolor": back, "hoverlabel.font.color": text,
    };
  }

  function restyle() {
    keys.forEach(function (key) { Plotly.relayout(key, look()); });
  }

  keys.forEach(function (key) {
    const figure = figures[key];
    Plotly.newPlot(key, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  });
  restyle();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  // Print styles are in force only between these two events.
  matchMedia("print").addEventListener("change", restyle);
})();
