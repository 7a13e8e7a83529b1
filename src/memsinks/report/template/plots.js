function drawPlots() {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const waiting = Object.keys(figures);
  const drawn = [];

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

  function draw() {
    const key = waiting.shift();
    const figure = figures[key];
    Plotly.newPlot(key, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    Plotly.relayout(key, look());
    drawn.push(key);
  }

  // One at a time, so that the page can be read and scrolled meanwhile.
  function next() {
    if (!waiting.length) { return; }
    draw();
    setTimeout(next);
  }

  function restyle() {
    drawn.forEach(function (key) { Plotly.relayout(key, look()); });
  }

  next();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  // A plot has the width of the screen, which is wider than paper: A4 within its margins has 700 pixels.
  addEventListener("beforeprint", function () {
    while (waiting.length) { draw(); }
    drawn.forEach(function (key) { Plotly.relayout(key, { width: 680 }); });
  });
  addEventListener("afterprint", function () {
    drawn.forEach(function (key) { Plotly.relayout(key, { width: null, autosize: true }); });
  });
  // Print styles are in force only between these two events.
  matchMedia("print").addEventListener("change", restyle);
}
