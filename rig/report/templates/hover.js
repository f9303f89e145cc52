// Says the values under the pointer. The page is complete without it: every figure is in a table.
(() => {
  const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

  // The corners of a line of steps or of slopes, in thousandths of the plot.
  function corners(path) {
    let x = 0, y = 0;
    return [...path.getAttribute("d").matchAll(/([MHVL])(-?[\d.]+)(?: (-?[\d.]+))?/g)].map(([, command, first, second]) => {
      if (command === "V") y = +first;
      else { x = +first; if (second !== undefined) y = +second; }
      return [x, y];
    });
  }

  function prepare(plot) {
    const [left, right] = plot.dataset.x.split(" ").map(Number);
    const [bottom, top] = plot.dataset.y.split(" ").map(Number);
    const lines = [...plot.querySelectorAll(".line:not(.thin)")].map((path) => [path.dataset.name, corners(path)]);
    const mark = Object.assign(document.createElement("i"), { className: "mark", hidden: true });
    const said = Object.assign(document.createElement("div"), { className: "said", hidden: true });
    plot.append(mark, said);
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const values = lines.map(([name, points]) => {
        const corner = points.findLast(([x]) => x <= share * 1000);
        return corner && `${name}: ${number.format(bottom + (top - bottom) * (1 - corner[1] / 1000))}`;
      }).filter(Boolean);
      mark.hidden = said.hidden = !values.length;
      mark.style.left = `${100 * share}%`;
      said.style[share < 0.5 ? "left" : "right"] = `${100 * Math.min(share, 1 - share) + 1}%`;
      said.style[share < 0.5 ? "right" : "left"] = "auto";
      said.textContent = [number.format(left + (right - left) * share), ...values].join("\n");
    });
    plot.addEventListener("pointerleave", () => { mark.hidden = said.hidden = true; });
  }

  // Once a pointer comes: a page with many lines opens at once.
  document.querySelectorAll(".plot[data-x]").forEach((plot) => {
    plot.addEventListener("pointerenter", () => prepare(plot), { once: true });
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
