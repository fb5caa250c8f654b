// The sample browser. Text from models and data is only ever set as text content.
unpack("samples-data").then((data) => {
  const list = $("#list");
  if (!data || !list) return;
  const PAGE_SIZE = 10;
  const controls = { benchmark: $("#by-benchmark"), type: $("#by-type"), one: $("#one"), other: $("#other"), words: $("#words") };
  const isLong = data.rows.length > 8;  // then the two compared methods come first, and the table scrolls
  let outcome = "all";
  let page = 0;

  unique(data.items.map((item) => item.benchmark)).forEach((name) => addOption(controls.benchmark, name, name));
  data.rows.forEach((row, index) => [controls.one, controls.other].forEach((select) => addOption(select, String(index), row.label)));
  const base = data.rows.findIndex((row) => row.base);
  controls.one.value = String(data.best);
  controls.other.value = String(base >= 0 ? base : 0);
  const fillTypes = () => {
    controls.type.replaceChildren();
    addOption(controls.type, "", "All types");
    unique(data.items.filter((item) => !controls.benchmark.value || item.benchmark === controls.benchmark.value).map((item) => item.type))
      .sort().forEach((name) => addOption(controls.type, name, name));
  };
  fillTypes();

  // An answer is [text, status, score, CEM, F1]; trailing nulls are left out.
  const isScored = (answer) => answer[2] !== null && answer[2] !== undefined;
  const outcomeOf = (item) => {
    const [one, other] = [item.answers[Number(controls.one.value)], item.answers[Number(controls.other.value)]];
    if (!one || !other || !isScored(one) || !isScored(other)) return "none";
    const gap = one[2] - other[2];
    return gap > 1e-9 ? "wins" : gap < -1e-9 ? "losses" : "ties";
  };
  const filterItems = () => {
    const words = controls.words.value.trim().toLowerCase();
    return data.items.filter((item) =>
      (!controls.benchmark.value || item.benchmark === controls.benchmark.value) &&
      (!controls.type.value || item.type === controls.type.value) &&
      (!words || [item.question, item.reference, item.id, ...item.answers.map((answer) => (answer ? answer[0] : ""))]
        .some((text) => text.toLowerCase().includes(words))));
  };
  const makeScore = (value) => {
    const text = value === null || value === undefined ? "–" : (100 * value).toFixed(0);
    return make("td", "num" + (value === 1 ? " right" : ""), text);
  };
  const makeAnswers = (item) => {
    const table = make("table", "answer-table");
    const hasCem = item.answers.some((answer) => answer && answer[3] !== null && answer[3] !== undefined);
    const head = table.createTHead().insertRow();
    ["Method", "Answer", ...(hasCem ? ["CEM", "F1"] : ["Score"])].forEach((title, column) => {
      const cell = make("th", column > 1 ? "num" : "", title);
      cell.scope = "col";
      head.append(cell);
    });
    const body = table.createTBody();
    const compared = [Number(controls.one.value), Number(controls.other.value)];
    const order = data.rows.map((row, index) => index);
    if (isLong) order.sort((a, b) => compared.includes(b) - compared.includes(a) || a - b);
    order.forEach((index) => {
      const row = data.rows[index];
      const answer = item.answers[index];
      const line = body.insertRow();
      if (compared.includes(index)) line.className = "compared";
      const name = make("th", "", row.label);
      name.scope = "row";
      name.dir = "auto";
      line.append(name);
      const cell = make("td", "text");
      const text = make("div", "", answer && answer[0] ? answer[0] : "");
      text.dir = "auto";
      if (!answer) text.append(make("span", "none", "not asked"));
      else if (answer[1]) text.append(make("span", "none", (answer[0] ? " · " : "") + (answer[1] === "empty" ? "no answer" : answer[1])));
      cell.append(text);
      line.append(cell);
      (hasCem ? [answer && answer[3], answer && answer[4]] : [answer && answer[2]]).forEach((value) => line.append(makeScore(value)));
    });
    return table;
  };
  const makeSample = (item) => {
    const sample = make("li", "sample");
    const pictures = make("div", "pics");
    const available = item.pictures.filter((name) => data.pictures[name]);
    available.forEach((name, index) => {
      const image = make("img", available.length > 1 ? "many" : "");
      image.src = data.pictures[name];
      image.alt = `Picture ${index + 1} of question ${item.id}`;
      pictures.append(image);
    });
    if (item.more) {
      const link = make("a", "where", available.length ? "more pictures" : "with its picture");
      link.href = item.more;
      pictures.append(link);
    }
    const text = make("div", "");
    text.append(make("div", "where", [item.benchmark, item.type, "no. " + item.id].filter(Boolean).join(" · ")));
    const question = make("p", "question", item.question);
    question.dir = "auto";
    text.append(question);
    const reference = make("p", "reference", "Reference: ");
    const expected = make("b", "", item.reference || "–");
    expected.dir = "auto";
    reference.append(expected);
    text.append(reference);
    const answers = make("div", isLong ? "answers many" : "answers");
    if (isLong) {
      answers.tabIndex = 0;
      answers.setAttribute("role", "group");
      answers.setAttribute("aria-label", `All ${data.rows.length} answers to question ${item.id}`);
    }
    answers.append(makeAnswers(item));
    sample.append(pictures, text, answers);
    return sample;
  };
  const draw = () => {
    const filtered = filterItems();
    const counts = { all: filtered.length, wins: 0, losses: 0, ties: 0 };
    filtered.forEach((item) => { const kind = outcomeOf(item); if (kind in counts) counts[kind] += 1; });
    all("[data-outcome]").forEach((button) => { $(".count", button).textContent = counts[button.dataset.outcome].toLocaleString("en"); });
    const matching = outcome === "all" ? filtered : filtered.filter((item) => outcomeOf(item) === outcome);
    const pages = Math.max(1, Math.ceil(matching.length / PAGE_SIZE));
    page = Math.min(page, pages - 1);
    list.replaceChildren(...matching.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE).map(makeSample));
    all(".question, .text div", list).filter((box) => box.scrollHeight > box.clientHeight + 1).forEach((box) => { box.tabIndex = 0; });
    if (!matching.length) list.append(make("li", "sample", "No question fits these filters."));
    $("#where").textContent = `Page ${page + 1} of ${pages} · ${matching.length.toLocaleString("en")} questions`;
    $("#back").disabled = page === 0;
    $("#next").disabled = page >= pages - 1;
  };
  const restart = () => { page = 0; draw(); };
  controls.benchmark.addEventListener("change", () => { fillTypes(); restart(); });
  [controls.type, controls.one, controls.other].forEach((select) => select.addEventListener("change", restart));
  controls.words.addEventListener("input", restart);
  all("[data-outcome]").forEach((button) => button.addEventListener("click", () => { press(button); outcome = button.dataset.outcome; restart(); }));
  const turnPage = (step) => { page += step; draw(); $("#samples").scrollIntoView(); };
  $("#back").addEventListener("click", () => turnPage(-1));
  $("#next").addEventListener("click", () => turnPage(1));
  // A link from the leaderboard names one question, as in samples/001.html#12.
  const target = /^#(\d+)$/.exec(location.hash);
  if (target && target[1] < data.items.length) page = Math.floor(Number(target[1]) / PAGE_SIZE);
  draw();
  if (target && list.children[target[1] % PAGE_SIZE]) list.children[target[1] % PAGE_SIZE].scrollIntoView();
});
