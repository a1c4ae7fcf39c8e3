// The explorer (book/explorer.md): knowledge points of one sample, counted here at any threshold.
//
// A unit's rank says how many edges (`lowest` / `perNat` nats, and every 1 / `perNat` from there)
// lie below H_bar - H_i. Edges and the slider's positions are the same numbers, so H_bar - H_i > b
// is a comparison of whole numbers, with the answer that kpnb.metrics.points gives.
"use strict";
(() => {
  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const REST = 400; // milliseconds without a change before counts are spoken
  const HEIGHT = Math.PI / 9; // from which a cloud is seen

  const find = (selector) => root.querySelector(selector);
  const all = (selector) => [...root.querySelectorAll(selector)];
  const fill = (selector, items, html) => (find(selector).innerHTML = items.map(html).join(""));
  const range = (length) => [...Array(length).keys()];
  const lastOf = (list) => list[list.length - 1];
  const safe = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

  // Numbers of a pack

  for (const pack of data.packs) {
    pack.units = Math.max(...pack.samples.map((sample) => sample.foreground.length));
    for (const network of Object.values(pack.layers).flatMap(Object.values))
      network.ranks = bytes(network.ranks);
  }

  const state = { pack: data.packs[0], sample: 0, role: "S", b: data.packs[0].b, turn: 30 };
  const sample = () => state.pack.samples[state.sample];
  const isForeground = (unit) => sample().foreground[unit] === "1";
  const networkOf = (role) => state.pack.layers[state.layer][role];
  const roles = () => Object.keys(data.roles).filter(networkOf);
  const epochOf = (network) =>
    network.epochs.includes(state.epoch) ? state.epoch : lastOf(network.epochs);

  // Rows of ranks are the epochs, and at the end the final network against the mean over all
  // samples, which is what a metric of the final network is of.
  const rowsOf = (network) => network.ranks.length / (state.pack.units * state.pack.samples.length);
  const shownRow = (network) =>
    epochOf(network) === lastOf(network.epochs)
      ? rowsOf(network) - 1
      : network.epochs.indexOf(epochOf(network));

  // The ranks of the sample's units.
  function ranksOf(network, row) {
    const start = (row * state.pack.samples.length + state.sample) * state.pack.units;
    return network.ranks.subarray(start, start + sample().foreground.length);
  }

  // 1 a foreground point, -1 a background point, 0 none; NaN: the unit takes no part.
  function kindsOf(network, row) {
    return Array.from(ranksOf(network, row), (rank, unit) => {
      if (rank === data.none) return NaN;
      return rank > state.b - data.lowest ? (isForeground(unit) ? 1 : -1) : 0;
    });
  }

  // Eq. 5 to 7 at an epoch, and Eq. 9 of the whole training; NaN where there is no entropy map.
  function counts(role) {
    const network = networkOf(role);
    const kinds = kindsOf(network, shownRow(network));
    const [fg, bg] = [1, -1].map((wanted) => kinds.filter((kind) => kind === wanted).length);
    const found = { n_fg: fg, n_bg: bg, lambda: fg / Math.max(1, fg + bg) };
    if (kinds.every(Number.isNaN)) for (const metric of Object.keys(found)) found[metric] = NaN;
    return { ...found, rho: rho(network) };
  }

  // Foreground points of the last epoch over all that were ever tried, the untrained network aside.
  function rho(network) {
    const trail = range(Math.max(0, rowsOf(network) - 2)).map((row) => kindsOf(network, row + 1));
    if (!trail.length || trail.some((kinds) => kinds.every(Number.isNaN))) return NaN;
    const tried = range(sample().foreground.length).filter((unit) =>
      trail.some((kinds) => kinds[unit] === 1),
    );
    return lastOf(trail).filter((kind) => kind === 1).length / Math.max(1, tried.length);
  }

  // State and address

  const nats = (position) => (position / data.perNat).toFixed(2);

  // Put what is asked for into the state, and the usual in the place of what is not there.
  function choose(asked) {
    const pack = data.packs.find(
      ({ modality, network }) =>
        modality === asked.modality && network === (asked.network || network),
    );
    if (pack) Object.assign(state, { pack, b: pack.b });
    const { layers, samples } = state.pack;
    state.sample = Number(asked.sample || (pack ? 0 : state.sample));
    if (!samples[state.sample]) state.sample = 0;
    state.layer = asked.layer || state.layer;
    if (!layers[state.layer]) state.layer = lastOf(Object.keys(layers));
    const role = Object.keys(data.roles).find((key) => data.roles[key] === asked.role);
    state.role = [role, state.role, "S"].find((key) => key && networkOf(key));
    const { epochs } = networkOf("S");
    state.epoch = "epoch" in asked ? Number(asked.epoch) : state.epoch;
    if (!epochs.includes(state.epoch)) state.epoch = lastOf(epochs);
    const b = Math.round(Number(asked.b) * data.perNat);
    if (b >= 1 && b <= find("[name=b]").max) state.b = b;
  }

  function fromAddress() {
    // Links have it behind "?": the theme's script takes every "#" of a link for a place.
    const told = [location.hash, location.search].find((part) => part.includes("="));
    if (!told) return;
    choose(Object.fromEntries(new URLSearchParams(told.slice(1))));
    if (root.getBoundingClientRect().top > innerHeight) root.scrollIntoView(); // one page of all
  }

  function toAddress() {
    const { modality, network } = state.pack;
    const first = data.packs.find((pack) => pack.modality === modality);
    const told = { modality, ...(first !== state.pack && { network }), sample: state.sample };
    Object.assign(told, { role: data.roles[state.role], layer: state.layer });
    Object.assign(told, { epoch: epochOf(networkOf(state.role)), b: Number(nats(state.b)) });
    history.replaceState(null, "", `#${new URLSearchParams(told)}`);
  }

  // Controls

  const titled = (place) => `${state.pack.modality} ${place}, ${state.pack.samples[place].name}`;

  const tile = (name, value, label = value, shown = safe(label)) =>
    `<label class="tile" title="${safe(label)}"><input type="radio" name="${name}" ` +
    `value="${safe(value)}" aria-label="${safe(label)}"><span>${shown}</span></label>`;

  const picture = (content) => `data:image/png;base64,${content}`;

  // What hangs on the study alone, drawn when it is another, so that no control loses the focus.
  function drawStudy() {
    const { pack } = state;
    const shown = ({ picture: own }, place) =>
      own ? `<img src="${picture(own)}" alt="">` : `${place}`;
    find(".samples legend").textContent = `Sample (${pack.modality})`;
    fill(".samples div", pack.samples, (one, n) => tile("sample", n, titled(n), shown(one, n)));
    fill("[data-of=role]", roles(), (role) => tile("role", role, data.roles[role]));
    fill("[data-of=layer]", Object.keys(pack.layers), (layer) => tile("layer", layer));
    const jumps = pack.verdicts.length ? pack.jumps : [];
    fill(".jumps", jumps, (b) => `<button type="button" value="${b}">b = ${nats(b)}</button>`);
    find(".about").innerHTML = pack.about;
    find(".inside").textContent = pack.inside;
    find("[name=study]").value = data.packs.indexOf(pack);
    drawStudy.drawn = pack;
  }

  function drawControls() {
    for (const name of ["sample", "role", "layer"])
      for (const input of all(`[name=${name}]`)) input.checked = input.value === `${state[name]}`;
    const network = networkOf(state.role);
    const alone = network.epochs.length === 1;
    find("[name=epoch]").max = Math.max(1, network.epochs.length - 1);
    find("[name=epoch]").disabled = alone;
    const epoch = epochOf(network);
    const place = alone ? 1 : network.epochs.indexOf(epoch);
    slide("epoch", place, alone ? `${epoch}, the only one measured` : `${epoch}`);
    slide("b", state.b, `${nats(state.b)} nats`);
    slide("turn", state.turn, `${state.turn}°`);
    for (const part of all(".turn")) part.hidden = !sample().points;
  }

  function slide(name, value, text) {
    const input = find(`[name=${name}]`);
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    find(`output[for=${input.id}]`).textContent = text;
  }

  // Drawings: kinds and ranks are of the units, in their order

  const isShaded = (rank) => find("[name=shade]").checked && rank !== data.none;

  // A color of H_bar - H_i, and the color of text on it.
  function shade(rank) {
    const { low, high, colors } = data.scale;
    const share = ((rank + data.lowest - 0.5) / data.perNat - low) / (high - low);
    return colors[Math.round(Math.min(1, Math.max(0, share)) * (colors.length - 1))];
  }

  function mark(x, y, size, unit, name, color) {
    const side = isForeground(unit) ? "fg" : "bg";
    const form = find(`.sign .${side}`).getAttribute("d"); // as in the legend
    return (
      `<path class="${name} ${side}" d="${form}" ` +
      `transform="translate(${x} ${y}) scale(${size})" style="${color ? `fill:${color}` : ""}"/>`
    );
  }

  const svg = (box, parts) =>
    `<svg viewBox="${box}" role="img" aria-label="${safe(told())}">${parts.join("")}</svg>`;

  function drawPicture(kinds, ranks) {
    const side = Math.sqrt(kinds.length);
    const units = range(kinds.length).map((unit) => [unit, unit % side, Math.floor(unit / side)]);
    const within = (x, y) => x >= 0 && x < side && y >= 0 && isForeground(y * side + x);
    const cells = units.filter(([unit]) => isShaded(ranks[unit]));
    const border = range((side + 1) ** 2).map((place) => {
      const [x, y] = [place % (side + 1), Math.floor(place / (side + 1))];
      const across = within(x, y) !== within(x, y - 1) ? `M${x} ${y}h1` : "";
      return across + (within(x, y) !== within(x - 1, y) ? `M${x} ${y}v1` : "");
    });
    return svg(`0 0 ${side} ${side}`, [
      `<image href="${picture(sample().picture)}" width="${side}" height="${side}"/>`,
      ...cells.map(
        ([unit, x, y]) =>
          `<rect x="${x}" y="${y}" width="1.02" height="1.02" fill="${shade(ranks[unit])[0]}"/>`,
      ),
      ...["halo", "outline"].map((name) => `<path class="${name}" d="${border.join("")}"/>`),
      ...units
        .filter(([unit]) => kinds[unit])
        .map(([unit, x, y]) => mark(x + 0.5, y + 0.5, 1, unit, "point")),
    ]);
  }

  // Turned about the upward axis; the farthest points are drawn first.
  function drawCloud(kinds, ranks) {
    const [sin, cos] = [Math.sin, Math.cos].map((f) => f((state.turn * Math.PI) / 180));
    const [rise, level] = [Math.sin(HEIGHT), Math.cos(HEIGHT)];
    const places = new Int8Array(bytes(sample().points).buffer);
    const points = kinds.map((kind, unit) => {
      const [x, y, z] = places.subarray(3 * unit, 3 * unit + 3);
      const [right, away] = [cos * x + sin * y, cos * y - sin * x];
      const reach = Math.hypot(x, y, z);
      return [unit, right, -(level * z + rise * away), level * away - rise * z, reach];
    });
    const reach = Math.ceil(Math.max(...points.map(lastOf)) * 1.06);
    points.sort((one, other) => other[3] - one[3]);
    const marks = points.map(([unit, x, y]) => {
      const [color] = isShaded(ranks[unit]) ? shade(ranks[unit]) : [""];
      const name = kinds[unit] ? "point" : color ? "plain" : "quiet";
      return mark(x, y, reach / (kinds[unit] ? 11 : 18), unit, name, color);
    });
    return svg(`${-reach} ${-reach} ${2 * reach} ${2 * reach}`, marks);
  }

  function drawWords(kinds, ranks) {
    const { words, joined, parts } = sample();
    const drawn = (unit) => {
      const side = isForeground(unit) ? "fg" : "bg";
      const said = `role="img" aria-label="${side === "fg" ? "foreground" : "background"} point: "`;
      const sign = find(`.sign:has(.${side})`).outerHTML.replace('aria-hidden="true"', said);
      const [back, text] = isShaded(ranks[unit]) ? shade(ranks[unit]) : ["", ""];
      const name = `word ${side}${kinds[unit] ? " held" : ""}`;
      const word = `${kinds[unit] ? sign : ""}${safe(words[unit])}`;
      return `<span class="${name}" style="background:${back};color:${text}">${word}</span>`;
    };
    const lines = parts.map(([label, start], place) => {
      const end = place + 1 < parts.length ? parts[place + 1][1] : words.length;
      const units = range(end).slice(start);
      const body = units.map((unit) => (joined[unit] === "1" ? "" : " ") + drawn(unit)).join("");
      return `<p>${label && `<span class="part">${safe(label)}:</span>`}${body}</p>`;
    });
    return lines.join("");
  }

  function draw() {
    const network = networkOf(state.role);
    const row = shownRow(network);
    const one = sample();
    const drawn = one.picture ? drawPicture : one.points ? drawCloud : drawWords;
    find(".drawing").innerHTML = drawn(kindsOf(network, row), ranksOf(network, row));
    find(".view").classList.toggle("text", drawn === drawWords);
    find(".name").textContent = titled(state.sample);
    find(".scale").hidden = !find("[name=shade]").checked;
  }

  // Numbers

  function written(value) {
    if (Number.isNaN(value)) return "–";
    return Number.isInteger(value) ? `${value}` : value.toFixed(3);
  }

  function told() {
    const found = counts(state.role);
    const epoch = epochOf(networkOf(state.role));
    const network = `${data.roles[state.role]}, ${state.layer}, epoch ${epoch}, b ${nats(state.b)}`;
    const rest = Number.isNaN(found.rho) ? "" : `, rho ${written(found.rho)}`;
    const numbers = Number.isNaN(found.n_fg)
      ? "no entropy map"
      : `${found.n_fg} foreground points, ${found.n_bg} background points, ` +
        `lambda ${written(found.lambda)}`;
    return `${titled(state.sample)}: ${network}: ${numbers}${rest}`;
  }

  function drawCounts() {
    const line = (role) => {
      const cells = Object.entries(counts(role)).map(
        ([metric, value]) =>
          `<td data-metric="${metric}" data-value="${value}">${written(value)}</td>`,
      );
      const current = role === state.role ? ' aria-current="true"' : "";
      const name = `${data.roles[role]}, epoch ${epochOf(networkOf(role))}`;
      return `<tr data-role="${role}"${current}><th scope="row">${name}</th>${cells.join("")}</tr>`;
    };
    const where = `${titled(state.sample)}: ${state.layer}, b = ${nats(state.b)}`;
    find(".counts caption").textContent = where;
    fill(".counts tbody", roles(), line);
    find(".lost").hidden = !Number.isNaN(counts(state.role).n_fg);
  }

  // The student's lead at every b, with its interval; a line at 0, and one at the b chosen.
  function curve(rows) {
    const ends = rows.map(({ b, ends: [low, lead, high] }) => [b, low ?? lead, lead, high ?? lead]);
    const every = ends.flatMap(([, ...three]) => three);
    const [top, bottom] = [Math.max(0, ...every), Math.min(0, ...every)];
    const y = (value) => ((20 * (top - value)) / (top - bottom || 1)).toFixed(2);
    const along = (place) => ends.map((end) => `${end[0]} ${y(end[place])}`);
    const drawn = {
      band: `M${[...along(3), ...along(1).reverse()].join("L")}Z`,
      lead: `M${along(2).join("L")}`,
      zero: `M1 ${y(0)}H${data.perNat}`,
      now: `M${state.b} -2V22`,
    };
    const paths = Object.entries(drawn).map(([name, d]) => `<path class="${name}" d="${d}"/>`);
    const box = `viewBox="0 -2 ${data.perNat + 1} 24" preserveAspectRatio="none"`;
    return `<svg class="curve" ${box} aria-hidden="true">${paths.join("")}</svg>`;
  }

  // Verdicts over all samples, with roles for where CSS lays the table out as a list.
  function drawVerdicts() {
    const every = state.pack.verdicts.filter((one) => one.layer === state.layer);
    const shown = every.filter((one) => one.b === state.b);
    const reason = every.map((one) => one.unfit).find(Boolean);
    find(".unfit").hidden = !reason;
    find(".unfit").textContent = reason;
    find(".verdicts .head span").textContent = `${state.layer}, b = ${nats(state.b)}`;
    for (const jump of all(".jumps button"))
      jump.setAttribute("aria-pressed", jump.value === `${state.b}`);
    find(".verdicts table").hidden = !shown.length;
    find(".none").innerHTML = state.pack.nothing;
    find(".none").hidden = shown.length > 0;
    const heads = all(".verdicts thead th").map((head) => head.textContent);
    const line = ({ metric, predicted, difference, verdict, over }) => {
      const rows = every.filter((one) => one.metric === metric);
      const cells = [predicted, difference, verdict, curve(rows), over].map(
        (text, place) => `<td role="cell" data-head="${heads[place + 1]}">${text}</td>`,
      );
      return `<tr role="row"><th scope="row" role="rowheader">${metric}</th>${cells.join("")}</tr>`;
    };
    fill(".verdicts tbody", shown, line);
  }

  // All together

  function show() {
    if (drawStudy.drawn !== state.pack) drawStudy();
    for (const part of [drawControls, draw, drawCounts, drawVerdicts]) part();
    clearTimeout(show.waiting);
    show.waiting = setTimeout(() => (find(".spoken").textContent = told()), REST);
  }

  const answers = {
    study: (place) => {
      const { modality, network } = data.packs[place];
      choose({ modality, network });
    },
    epoch: (place) => choose({ epoch: networkOf(state.role).epochs[place] }),
    role: (role) => choose({ role: data.roles[role] }),
    sample: (place) => choose({ sample: place }),
    layer: (layer) => choose({ layer }),
    b: (position) => Object.assign(state, { b: Number(position) }),
    turn: (angle) => Object.assign(state, { turn: Number(angle) }),
    shade: () => {},
  };

  function changed(name, value) {
    answers[name](value);
    show();
    toAddress();
  }

  root.addEventListener("input", ({ target }) => changed(target.name, target.value));
  find(".jumps").addEventListener("click", ({ target }) => {
    if (target.value) changed("b", target.value);
  });
  root.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => {
    fromAddress();
    show();
  });
  choose({});
  fromAddress();
  show();
})();
