// Draws the panels in the page's own colours, and again when the reader switches between light and dark.
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = {
    displaylogo: false, responsive: true, displayModeBar: false,
    doubleClick: "reset", showTips: false,
  };

  function coloured(trace) {
    const hue = colour(`--hue-${trace.meta.hue}`);
    trace.line = { ...trace.line, color: hue };
    trace.marker = { ...trace.marker, color: hue };
    if (trace.fill) trace.fillcolor = `${hue}2e`;
    return trace;
  }

  function draw(panel) {
    const figure = JSON.parse(document.getElementById(panel.dataset.chart).textContent);
    const { layout } = figure;
    layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") };
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      Object.assign(axis, { gridcolor: colour("--grid"), linecolor: colour("--line"), automargin: true });
    }
    Plotly.react(panel, figure.data.map(coloured), layout, config);
  }

  const panels = document.querySelectorAll("[data-chart]");
  const drawAll = () => panels.forEach(draw);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
