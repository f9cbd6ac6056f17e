// Texts and names are inserted as text, never as markup.
const CHUNK = 32; // texts per request
const MAX_WORDS = 200; // words that are left out in turn
const TOP = 5;
let models = [];
// Isolate a text or name, so that its direction does not affect the words around it.
const own = (words) => made("bdi", { textContent: words });
const percent = (p) => `${(100 * p).toFixed(1)}%`;
const points = (d) => `${d < 0 ? "−" : "+"}${Math.abs(100 * d).toFixed(1)} points`;
// If labels are numbers, the prediction is a number without probabilities.
const isNumber = ({ label }) => typeof label === "number";
const digits = (x) => String(Number(x.toPrecision(6)));
const more = (d) => `${d < 0 ? "−" : "+"}${digits(Math.abs(d))}`;

function say(words, problem = false) {
  $("status").textContent = words;
  $("status").classList.toggle("problem", problem);
}

async function ask(path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  let response;
  try {
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("Cannot reach the server.");
  }
  if (response.status === 401) {
    $("ask-token").hidden = false;
    $("token").focus();
    throw new Error($("token").value ? "The token is wrong." : "The server requires a token.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const detail = answer.detail;
  throw new Error(Array.isArray(detail) ? detail.map((one) => `${one.loc.join(".")}: ${one.msg}`).join("; ") : detail || `The server answered ${response.status}.`);
}

// The texts of a pair are separated by a bar or a tab.
const BAR = /\s*\|\|\|\s*|\t/;
function request(name, texts) {
  if (models.find((model) => model.name === name)?.text_columns.length !== 2) return { texts };
  const pairs = texts.map((text) => text.split(BAR));
  if (pairs.some((pair) => pair.length !== 2 || !pair[0].trim() || !pair[1].trim())) throw new Error(`${name} classifies pairs of texts. Write FIRST ||| SECOND.`);
  return { texts: pairs.map(([first]) => first), text_pairs: pairs.map(([, second]) => second) };
}

async function predict(name, texts) {
  const found = [];
  for (let i = 0; i < texts.length; i += CHUNK) {
    const answer = await ask(`v1/models/${name}:predict`, request(name, texts.slice(i, i + CHUNK)));
    found.push(...answer.predictions);
  }
  return found;
}

function texts() {
  const all = $("lines").checked ? $("texts").value.split("\n") : [$("texts").value];
  return all.map((text) => text.trim()).filter((text) => text);
}
// Split a text into words to leave out: at spaces, and in scripts without spaces (Chinese, Thai) by the browser's
// dictionary, with punctuation kept at the preceding word. Without a dictionary, split into letters with their marks.
const UNSPACED = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Mymr}\p{sc=Khmr}]/u;
const segmenter = "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
function split(text) {
  return text.split(/(\s+|\|\|\|)/).flatMap((piece) => {
    if (!UNSPACED.test(piece)) return [piece];
    const found = [];
    for (const one of segmenter ? segmenter.segment(piece) : piece.match(/\P{M}\p{M}*/gu).map((letter) => ({ segment: letter, isWordLike: /[\p{L}\p{N}]/u.test(letter) }))) {
      if (one.isWordLike || !found.length) found.push(one.segment);
      else found[found.length - 1] += one.segment;
    }
    return found;
  });
}
const chosen = () => models.filter((model) => $(`use-${model.name}`).checked);

async function load() {
  models = (await ask("v1/models")).models;
  $("bundles").querySelectorAll(".check, .note").forEach((old) => old.remove());
  for (const model of models) {
    const box = made("input", { type: "checkbox", id: `use-${model.name}`, checked: true });
    const about = made("small", { textContent: `${model.method} on ${model.base.id} · ${model.task === "regression" ? `number: ${model.labels[0]}` : `${model.labels.length} labels`}${model.text_columns.length === 2 ? " · pairs: FIRST ||| SECOND" : ""}` });
    $("bundles").append(made("label", { className: "check" }, box, made("span", {}, model.name, about)));
  }
  if (!models.length) $("bundles").append(made("p", { className: "note", textContent: "No bundle is loaded." }));
}

// The label whose probability the words are tested on: of several, the most probable.
function leading({ label, labels, probabilities }) {
  const among = labels && labels.length ? labels : Object.keys(probabilities);
  return label ?? among.reduce((best, one) => (probabilities[one] > probabilities[best] ? one : best));
}

// The prediction as text: one label, several, none, or a number.
function named(prediction) {
  if (isNumber(prediction)) return [digits(prediction.label)];
  const { label, labels } = prediction;
  const given = labels ?? [label];
  return given.length ? given.flatMap((one, i) => (i ? [", ", own(one)] : [own(one)])) : ["no label"];
}

function probabilities(prediction) {
  const list = made("dl");
  const falling = Object.entries(prediction.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  for (const [label, p] of falling) {
    const meter = made("meter", { min: 0, max: 1, value: p });
    meter.setAttribute("aria-hidden", "true");
    list.append(made("dt", {}, own(label)), made("dd", { textContent: percent(p) }), meter);
  }
  return list;
}

// Classify the text without each word in turn; a word's effect is what the probability, or the number, loses.
async function leaveOneOut(name, text, prediction) {
  const pieces = split(text);
  const pairs = models.find((model) => model.name === name)?.text_columns.length === 2;
  const words = pieces.flatMap((piece, at) => (piece.trim() && !(pairs && piece === "|||") ? [at] : [])).slice(0, MAX_WORDS);
  const whole_pair = (rest) => !pairs || rest.split(BAR).every((part) => part.trim());
  const without = words.map((at) => pieces.filter((_, i) => i !== at).join("").trim()).map((rest) => (whole_pair(rest) ? rest : ""));
  const amount = (one) => (isNumber(one) ? one.label : one.probabilities[leading(prediction)]);
  const whole = amount(prediction);
  const asked = without.map((rest, i) => [rest, words[i]]).filter(([rest]) => rest);
  const answers = await predict(name, asked.map(([rest]) => rest));
  const gives = new Map(asked.map(([, at], i) => [at, whole - amount(answers[i])]));
  return { pieces, gives };
}

function shown({ pieces, gives }, prediction) {
  const said = isNumber(prediction) ? more : points;
  const least = isNumber(prediction) ? Number.MIN_VALUE : 0.0005;
  const most = Math.max(...[...gives.values()].map(Math.abs), 0);
  const line = made("p", { className: "words", dir: "auto" });
  pieces.forEach((piece, at) => {
    const gave = gives.get(at);
    const level = gave === undefined || most < least ? 0 : Math.ceil((3 * Math.abs(gave)) / most - 0.5);
    if (level < 1) { line.append(piece); return; }
    line.append(made("mark", { className: `${gave > 0 ? "f" : "a"}${level}`, title: said(gave), textContent: piece }));
  });
  const top = [...gives].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, TOP);
  const list = made("ol", { className: "top" }, ...top.map(([at, gave]) => made("li", {}, own(pieces[at]), ` ${said(gave)}`)));
  const what = isNumber(prediction) ? ["the number"] : ["the probability of “", own(leading(prediction)), "”"];
  const note = made("p", { className: "note" },
    "Each word was left out once and the text classified again. The values show how much ", ...what, " rises with the word. " +
    "Words interact: if two words mean the same, leaving out one may change nothing. This shows what the model reacts to, not why a label is right." +
    (gives.size >= MAX_WORDS ? ` Only the first ${MAX_WORDS} words were tested.` : ""));
  return [line, list, note];
}

function column(model, text, prediction) {
  const place = made("div", {}, made("h3", { textContent: model.name }), made("p", { className: "label" }, ...named(prediction)), probabilities(prediction));
  const open = made("details", {}, made("summary", { textContent: "Which words mattered" }));
  let asked = false;
  open.addEventListener("toggle", async () => {
    if (!open.open || asked) return;
    asked = true;
    const wait = made("p", { className: "note", textContent: "Leaving out each word in turn …" });
    wait.setAttribute("role", "status");
    open.append(wait);
    try {
      const found = await leaveOneOut(model.name, text, prediction);
      wait.replaceWith(...(found.gives.size ? shown(found, prediction) : [made("p", { className: "note", textContent: "The text has only one word." })]));
    } catch (error) {
      asked = false;
      wait.replaceWith(made("p", { className: "problem", textContent: error.message }));
    }
  });
  place.append(open);
  return place;
}

async function label() {
  const [rows, wanted] = [texts(), chosen()];
  if (!models.length) await load();
  if (!rows.length) { say("Enter a text.", true); $("texts").focus(); return; }
  if (!chosen().length) { say("Select a bundle.", true); return; }
  $("go").disabled = true;
  say("Classifying …");
  try {
    const start = performance.now();
    const use = wanted.length ? wanted : chosen();
    const answers = await Promise.all(use.map((model) => predict(model.name, rows)));
    $("results").replaceChildren(...rows.map((text, i) => {
      const side = made("div", { className: "side" }, ...use.map((model, m) => column(model, text, answers[m][i])));
      return made("article", {}, made("h2", { textContent: rows.length > 1 ? `Text ${i + 1}` : "Text" }), made("p", { dir: "auto", textContent: text }), side);
    }));
    say(`${rows.length} ${rows.length === 1 ? "text" : "texts"}, ${use.length} ${use.length === 1 ? "bundle" : "bundles"}, ${Math.round(performance.now() - start)} ms.`);
  } catch (error) {
    say(error.message, true);
  } finally {
    $("go").disabled = false;
  }
}

const quoted = (words) => `'${words.replaceAll("'", "'\\''")}'`;
function curl() {
  const model = chosen()[0] ?? models[0];
  const address = new URL(`v1/models/${model ? model.name : "NAME"}:predict`, location.href).href;
  const secret = $("ask-token").hidden ? "" : ' \\\n  -H "Authorization: Bearer $FEATHERTUNE_TOKEN"';
  const pair = model && model.text_columns.length === 2;
  const body = JSON.stringify(request(model && model.name, texts().length ? texts() : [pair ? "A text. ||| Another." : "A text."]));
  return `curl ${quoted(address)} \\\n  -H 'Content-Type: application/json'${secret} \\\n  -d ${quoted(body)}`;
}

$("copy").addEventListener("click", async () => {
  const call = $("curl");
  call.textContent = curl();
  call.hidden = false;
  try {
    await navigator.clipboard.writeText(call.textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(call);
    say("Press Ctrl+C to copy the selection.");
  }
});
$("form").addEventListener("submit", (event) => { event.preventDefault(); label().catch((error) => say(error.message, true)); });
$("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("form").requestSubmit(); }
});
$("token").addEventListener("change", () => { load().then(() => say(""), (error) => say(error.message, true)); });
load().catch((error) => say(error.message, true));
