// The sample browser. Text from models and data is only ever set as text.
unpack("samples-data").then((store) => {
  const list = $("#list");
  if (!store || !list) return;
  const PAGE = 10;
  const chosen = { benchmark: $("#by-benchmark"), type: $("#by-type"), one: $("#one"), other: $("#other"), words: $("#words") };
  const many = store.rows.length > 8;  // then the two that are compared stand on top, and the others scroll
  let outcome = "all";
  let page = 0;

  unique(store.items.map((item) => item.benchmark)).forEach((name) => option(chosen.benchmark, name, name));
  store.rows.forEach((row, place) => [chosen.one, chosen.other].forEach((select) => option(select, String(place), row.label)));
  const base = store.rows.findIndex((row) => row.base);
  chosen.one.value = String(store.best);
  chosen.other.value = String(base >= 0 ? base : 0);
  const types = () => {
    chosen.type.replaceChildren();
    option(chosen.type, "", "All types");
    unique(store.items.filter((item) => !chosen.benchmark.value || item.benchmark === chosen.benchmark.value).map((item) => item.type))
      .sort().forEach((name) => option(chosen.type, name, name));
  };
  types();

  const scored = (answer) => answer[2] !== null && answer[2] !== undefined;
  const result = (item) => {
    const [one, other] = [item.answers[Number(chosen.one.value)], item.answers[Number(chosen.other.value)]];
    if (!one || !other || !scored(one) || !scored(other)) return "none";
    const gap = one[2] - other[2];
    return gap > 1e-9 ? "wins" : gap < -1e-9 ? "losses" : "ties";
  };
  const matching = () => {
    const words = chosen.words.value.trim().toLowerCase();
    return store.items.filter((item) =>
      (!chosen.benchmark.value || item.benchmark === chosen.benchmark.value) &&
      (!chosen.type.value || item.type === chosen.type.value) &&
      (!words || [item.question, item.reference, item.id, ...item.answers.map((answer) => (answer ? answer[0] : ""))]
        .some((text) => text.toLowerCase().includes(words))));
  };
  const number = (value) => {
    const cell = make("td", "num" + (value === 1 ? " right" : ""));
    cell.textContent = value === null || value === undefined ? "–" : (100 * value).toFixed(0);
    return cell;
  };
  const answers = (item) => {
    const table = make("table", "said");
    const graded = item.answers.some((answer) => answer && answer[3] !== null && answer[3] !== undefined);
    const head = table.createTHead().insertRow();
    ["Method", "Answer", ...(graded ? ["CEM", "F1"] : ["Score"])].forEach((title, column) => {
      const cell = make("th", column > 1 ? "num" : "", title);
      cell.scope = "col";
      head.append(cell);
    });
    const body = table.createTBody();
    const compared = [Number(chosen.one.value), Number(chosen.other.value)];
    const order = store.rows.map((row, place) => place).sort((a, b) => compared.includes(b) - compared.includes(a) || a - b);
    (many ? order : store.rows.map((row, place) => place)).forEach((place) => {
      const row = store.rows[place];
      const answer = item.answers[place];
      const line = body.insertRow();
      if (compared.includes(place)) line.className = "compared";
      const name = make("th", "", row.label);
      name.scope = "row";
      name.dir = "auto";
      line.append(name);
      const text = make("td", "text");
      const inner = make("div", "", answer && answer[0] ? answer[0] : "");
      inner.dir = "auto";
      if (!answer) inner.append(make("span", "none", "not asked"));
      else if (answer[1]) inner.append(make("span", "none", (answer[0] ? " · " : "") + (answer[1] === "empty" ? "no answer" : answer[1])));
      text.append(inner);
      line.append(text);
      (graded ? [answer && answer[3], answer && answer[4]] : [answer && answer[2]]).forEach((value) => line.append(number(value)));
    });
    return table;
  };
  const card = (item) => {
    const entry = make("li", "sample");
    const pictures = make("div", "pics");
    const shown = item.pictures.filter((name) => store.pictures[name]);
    shown.forEach((name, place) => {
      const image = make("img", shown.length > 1 ? "many" : "");
      image.src = store.pictures[name];
      image.alt = `Picture ${place + 1} of question ${item.id}`;
      pictures.append(image);
    });
    if (item.more) {
      const link = make("a", "where", shown.length ? "more pictures" : "with its picture");
      link.href = item.more;
      pictures.append(link);
    }
    const ask = make("div", "");
    ask.append(make("div", "where", [item.benchmark, item.type, "no. " + item.id].filter(Boolean).join(" · ")));
    const question = make("p", "ask", item.question);
    question.dir = "auto";
    ask.append(question);
    const gold = make("p", "gold", "Reference: ");
    const reference = make("b", "", item.reference || "–");
    reference.dir = "auto";
    gold.append(reference);
    ask.append(gold);
    const said = make("div", many ? "answers many" : "answers");
    if (many) {
      said.tabIndex = 0;
      said.setAttribute("role", "group");
      said.setAttribute("aria-label", `All ${store.rows.length} answers to question ${item.id}`);
    }
    said.append(answers(item));
    entry.append(pictures, ask, said);
    return entry;
  };
  const draw = () => {
    const found = matching();
    const counts = { all: found.length, wins: 0, losses: 0, ties: 0 };
    found.forEach((item) => { const kind = result(item); if (kind in counts) counts[kind] += 1; });
    all("[data-outcome]").forEach((button) => { $(".count", button).textContent = counts[button.dataset.outcome].toLocaleString("en"); });
    const kept = outcome === "all" ? found : found.filter((item) => result(item) === outcome);
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    page = Math.min(page, pages - 1);
    list.replaceChildren(...kept.slice(page * PAGE, (page + 1) * PAGE).map(card));
    all(".ask, .text div", list).filter((box) => box.scrollHeight > box.clientHeight + 1).forEach((box) => { box.tabIndex = 0; });
    if (!kept.length) list.append(make("li", "sample", "No question fits these filters."));
    $("#where").textContent = `Page ${page + 1} of ${pages} · ${kept.length.toLocaleString("en")} questions`;
    $("#back").disabled = page === 0;
    $("#next").disabled = page >= pages - 1;
  };
  const again = () => { page = 0; draw(); };
  chosen.benchmark.addEventListener("change", () => { types(); again(); });
  [chosen.type, chosen.one, chosen.other].forEach((select) => select.addEventListener("change", again));
  chosen.words.addEventListener("input", again);
  all("[data-outcome]").forEach((button) => button.addEventListener("click", () => { press(button); outcome = button.dataset.outcome; again(); }));
  const turn = (step) => { page += step; draw(); $("#samples").scrollIntoView(); };
  $("#back").addEventListener("click", () => turn(-1));
  $("#next").addEventListener("click", () => turn(1));
  const wanted = /^#(\d+)$/.exec(location.hash);
  if (wanted && wanted[1] < store.items.length) page = Math.floor(Number(wanted[1]) / PAGE);
  draw();
  if (wanted && list.children[wanted[1] % PAGE]) list.children[wanted[1] % PAGE].scrollIntoView();
});
