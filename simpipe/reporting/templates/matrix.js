// The confusion matrix by keyboard: its coloured cells are one stop of the tab key, the arrows go among them.

function startMatrix() {
  const grid = document.querySelector(".matrix");
  if (!grid) return;
  const coloured = (row) => [...row.querySelectorAll("[data-true]")];
  const lines = [...grid.querySelectorAll("[role=row]")].map(coloured).filter((line) => line.length);
  const cells = lines.flat();

  // The cell of a line that is most straight above or below another.
  function straight(line, cell) {
    const aside = (other) => Math.abs(other.x.baseVal.value - cell.x.baseVal.value);
    return line && [...line].sort((a, b) => aside(a) - aside(b))[0];
  }

  // Left and right go on from line to line, so that they come by every cell.
  function goal({ key, ctrlKey }, cell) {
    const line = lines.findIndex((each) => each.includes(cell));
    const place = cells.indexOf(cell);
    const ends = ctrlKey ? cells : lines[line];
    return {
      ArrowLeft: cells[place - 1],
      ArrowRight: cells[place + 1],
      ArrowUp: straight(lines[line - 1], cell),
      ArrowDown: straight(lines[line + 1], cell),
      Home: ends[0],
      End: ends.at(-1),
    }[key];
  }

  grid.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || !/^(Arrow|Home|End)/.test(event.key)) return;
    event.preventDefault(); // also at the edge, where the page would move
    goal(event, event.target)?.focus();
  });
  // Not one listener on the grid: Chromium takes an SVG that listens to focus for something to be focused.
  for (const cell of cells) {
    cell.addEventListener("focus", () => {
      grid.querySelector("[tabindex='0']").setAttribute("tabindex", "-1");
      cell.setAttribute("tabindex", "0");
    });
  }
}
