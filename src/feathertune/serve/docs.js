function resolved(schema, all) {
  if (Array.isArray(schema)) return schema.map((one) => resolved(one, all));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) return resolved(all[schema.$ref.split("/").pop()], all);
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== "title").map(([key, value]) => [key, resolved(value, all)]));
}

function folded(summary, schema, all) {
  const text = JSON.stringify(resolved(schema, all), null, 2);
  return made("details", {}, made("summary", { textContent: summary }), made("pre", { textContent: text, tabIndex: 0 }));
}

function operation(path, method, spec, all) {
  const card = made("article", {}, made("h2", {}, made("span", { className: "method", textContent: method.toUpperCase() }), made("code", { textContent: path })));
  card.append(made("p", { className: "note", textContent: `${spec.description ?? spec.summary}${spec.security ? " Requires the bearer token." : ""}` }));
  const body = spec.requestBody?.content?.["application/json"]?.schema;
  if (body) card.append(folded("Request body", body, all));
  const codes = made("dl", { className: "codes" });
  for (const [code, response] of Object.entries(spec.responses)) codes.append(made("dt", { textContent: code }), made("dd", { textContent: response.description }));
  card.append(made("details", {}, made("summary", { textContent: "Responses" }), codes));
  const success = Object.entries(spec.responses).find(([code, response]) => code.startsWith("2") && response.content?.["application/json"]?.schema);
  if (success) card.append(folded("Response schema", success[1].content["application/json"].schema, all));
  return card;
}

fetch("openapi.json").then((response) => response.json()).then((api) => {
  const all = api.components?.schemas ?? {};
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, spec] of Object.entries(methods)) $("operations").append(operation(path, method, spec, all));
  }
}).catch(() => { $("status").textContent = "openapi.json cannot be loaded."; $("status").className = "problem"; });
