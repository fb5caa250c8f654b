// The wide tables: rows open, columns sort and filter, the baseline can be chosen.
(() => {
  all(".open").forEach((button) => button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    document.getElementById(button.getAttribute("aria-controls")).hidden = open;
  }));

  // Sorting: each line with its details is one tbody; the first click puts the highest on top. What cannot be ranked
  // stays below, in its own order.
  const valueOf = (body, column) => {
    if (column === 0) return $("tr.line", body).dataset.label;
    const raw = $("tr.line", body).children[column].dataset.v;
    return raw ? Number(raw) : NaN;
  };
  all(".board .sort").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    if (!table.tBodies.length || table.id === "every") return;
    const column = [...head.parentElement.children].indexOf(head);
    const before = head.getAttribute("aria-sort");
    const order = turned(before, column === 0);
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    if (order) head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const last = (body) => Number($("tr.line", body).classList.contains("unranked"));
    const bodies = [...table.tBodies];
    bodies.sort((one, other) => {
      const place = Number(one.dataset.place) - Number(other.dataset.place);
      if (!order) return place;
      const [a, b] = [valueOf(one, column), valueOf(other, column)];
      if (typeof a === "string") return sign * a.localeCompare(b);
      if (last(one) !== last(other)) return last(one) - last(other);
      if (last(one)) return place;
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    bodies.forEach((body) => table.append(body));
  }));

  // What stands below each number.
  all("[data-show]").forEach((button) => button.addEventListener("click", () => {
    press(button);
    button.closest("section").dataset.view = button.dataset.show;
  }));

  // Filters: rows by name, model, method and variant; columns by the heading above them.
  const sift = (section) => {
    const words = $(".find", section).value.trim().toLowerCase();
    const facets = all(".facet", section);
    all("#pairs-scroll tbody tr", section).forEach((line) => { line.hidden = !line.textContent.toLowerCase().includes(words); });
    all("tbody[data-place]", section).forEach((body) => {
      const line = $("tr.line", body);
      body.hidden = !line.dataset.label.toLowerCase().includes(words) ||
        facets.some((facet) => facet.value && line.dataset[facet.dataset.facet] !== facet.value.slice(1));
    });
  };
  all(".find").forEach((input) => input.addEventListener("input", () => sift(input.closest("section"))));
  all(".facet").forEach((select) => select.addEventListener("change", () => sift(select.closest("section"))));
  all(".columns").forEach((select) => select.addEventListener("change", () => {
    const section = select.closest("section");
    all("[data-g]", section).forEach((cell) => { cell.classList.toggle("hidden", Boolean(select.value) && cell.dataset.g !== select.value); });
  }));

  // Another baseline: differences, their tests and shades are those that the report stored for it.
  unpack("scores-data").then((store) => {
    if (!store) return;
    const rows = new Map(store.rows.map((row, place) => [row.key, place]));
    const measures = new Map(store.measures.map((measure, place) => [measure.key, place]));
    all(".baseline").forEach((select) => {
      select.addEventListener("change", () => {
        const section = select.closest("section");
        const base = rows.get(select.value);
        all("tr.line", section).forEach((line) => {
          const row = rows.get(line.dataset.key);
          all("td[data-m]", line).forEach((cell) => {
            const measure = measures.get(cell.dataset.m);
            const [one, other] = [store.values[row][measure], store.values[base][measure]];
            const test = store.tests[base][row][measure];
            const delta = test ? test[3] : one && other && one[0] !== null && other[0] !== null && row !== base ? one[0] - other[0] : null;
            const p = test ? test[0] : null;
            $(".delta", cell).textContent = delta === null ? "" : signed(delta);
            $(".star", cell).textContent = p !== null && p < 0.05 ? "*" : "";
            cell.className = cell.className.replace(/ ?(gain|loss)\d/g, "") + (delta === null ? "" : ` ${tone(delta, p)}`);
          });
        });
        all(".against", section).forEach((place) => { place.textContent = store.rows[base].label; });
        section.dataset.view = "difference";
        press($("[data-show=difference]", section));
      });
      select.disabled = false;
    });
  });
})();
