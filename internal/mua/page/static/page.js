"use strict";
// What a page can do more with script: the keyboard, letters opened beside the list, search and
// saving while you type, addresses completed. Pages come parsed as documents, never as text.
(() => {
const $ = (s, from = document) => from.querySelector(s);
const $$ = (s, from = document) => [...from.querySelectorAll(s)];
const base = document.body.dataset.base; // all pages stand below it

// part fetches a part of a page and gives the document it stands in.
let asked = null;
function part(url, name, then, failed) {
  const x = new XMLHttpRequest();
  x.open("GET", url);
  x.responseType = "document";
  x.setRequestHeader("X-Poczta-Part", name);
  x.onload = () => x.status === 200 && x.response ? then(x.response) : failed();
  x.onerror = failed;
  x.send();
  return x;
}
function put(into, doc) { into.replaceChildren(...[...doc.body.childNodes].map(n => document.importNode(n, true))); }

// say has a screen reader say what a page shows that changed, or that came by another page.
const say = text => { const told = $("#told"); if (told && text) { told.textContent = ""; setTimeout(() => { told.textContent = text; }, 100); } };
say($("#flash .notice > span")?.textContent);

const rows = () => $$("#rows .row");
const list = $("#list"), reader = $("#reader");

// shown is the address of what the list page shows.
const address = () => location.pathname + location.search;
let shown = address();

// open shows a letter beside the list.
function open(url, push, focus) {
  const go = () => { location.href = url; };
  part(url, "letter", doc => {
    put(reader, doc);
    if (push) { history.pushState({}, "", url); shown = address(); }
    $(".panes").classList.toggle("reading", !!$(".letter", reader));
    const id = $(".letter", reader)?.dataset.id;
    for (const r of rows()) {
      const is = r.dataset.id === id, a = $("a", r);
      r.classList.toggle("current", is);
      if (is) { a.setAttribute("aria-current", "true"); r.classList.remove("unread"); $("a > .hidden", r)?.remove(); } else a.removeAttribute("aria-current");
    }
    const back = $("#picks input[name=back]");
    if (back) back.value = new URL(url, location.href).href.slice((location.origin + base).length);
    reader.scrollTop = 0;
    const title = $("#letter-title");
    if (title) { document.title = title.textContent + " · Poczta"; if (focus) title.focus(); }
  }, go);
}
document.addEventListener("click", e => {
  const a = e.target.closest?.("#rows .row > a, a[data-part=letter]");
  if (!a || !reader || e.metaKey || e.ctrlKey || e.shiftKey || e.button) return;
  e.preventDefault();
  open(a.href, true, true);
});
// The way back, which a step within the page is not.
window.addEventListener("popstate", () => { if (reader && address() !== shown) location.reload(); });

// More letters come below those that are there.
document.addEventListener("click", e => {
  const more = e.target.closest?.("#more");
  if (!more) return;
  e.preventDefault();
  part(more.href, "list", doc => {
    const item = more.closest("li"), fresh = $$("#rows > li", doc).map(n => document.importNode(n, true));
    item.replaceWith(...fresh);
    $("a", fresh[0])?.focus();
  }, () => { location.href = more.href; });
});

// Search as you type.
const q = $("#q");
if (q && list) {
  let timer = 0;
  q.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const u = new URL(location.href), now = new URLSearchParams();
      if (q.value) now.set("q", q.value);
      if (u.searchParams.get("v")) now.set("v", u.searchParams.get("v"));
      const to = base + "/mail" + (now.size ? "?" + now : "");
      asked?.abort();
      asked = part(to + (now.size ? "&" : "?") + "typing=1", "list", doc => { put(list, doc); history.replaceState({}, "", to); shown = address(); say(($("#found") || $(".empty,.notice", list))?.textContent); }, () => {});
    }, 150);
  });
}

// What arrived meanwhile: looked for every minute, while mail is being fetched and when that ends at
// once, unless the person is at work in the list.
function arrived() {
  const u = new URL(location.href);
  if (!list || document.hidden || u.searchParams.get("c") || list.contains(document.activeElement) || document.activeElement === q || $("#rows input:checked") || $("details.more[open]") || rows().length > 50) return;
  u.searchParams.delete("open"); u.searchParams.delete("as"); u.searchParams.delete("images");
  part(u.href, "", doc => {
    const here = $(".reader .letter")?.dataset.id, fresh = $("#list", doc);
    if (!fresh || list.contains(document.activeElement)) return;
    if (rows().length && rows().map(r => r.dataset.id + r.className.replace(" current", "")).join() === $$("#rows .row", fresh).map(r => r.dataset.id + r.className).join()) return;
    const at = list.scrollTop;
    list.replaceChildren(...[...fresh.childNodes].map(n => document.importNode(n, true)));
    list.scrollTop = at;
    for (const r of rows()) r.classList.toggle("current", r.dataset.id === here);
    $(".boxes", nav).replaceWith(document.importNode($("#nav .boxes", doc), true));
  }, () => {});
}
if (list) setInterval(arrived, 60000);

// How far fetches are: asked often while one runs.
const fetching = $("#fetching");
if (fetching) {
  let spoke = Date.now();
  const look = after => setTimeout(() => {
    if (document.hidden) { look(2000); return; }
    const ran = fetching.childElementCount > 0;
    part(base + "/fetching", "fetching", doc => {
      if (fetching.textContent !== doc.body.textContent) put(fetching, doc);
      const runs = fetching.childElementCount > 0;
      if (ran || runs) arrived();
      if (ran !== runs || runs && Date.now() - spoke > 30000) { spoke = Date.now(); say(runs ? fetching.textContent : document.body.dataset.fetched); }
      look(runs ? 2000 : 5000);
    }, () => look(20000));
  }, after);
  look(1000);
}

// The outbox: what becomes of letters shows by itself. A letter that waits stays as it is but for the
// seconds, so that its buttons can be pressed.
const queue = $("#queue");
if (queue) {
  const cards = from => $$(".card", from), ids = from => cards(from).map(c => c.dataset.id + " " + c.dataset.key).join();
  const follow = () => setTimeout(() => {
    if (document.hidden) { follow(); return; }
    part(location.pathname + "?was=" + cards(queue).map(c => c.dataset.id).join(), "queue", doc => {
      if (ids(queue) === ids(doc)) $$(".soon", doc).forEach((s, i) => { const here = $$(".soon", queue)[i]; if (here && here.textContent !== s.textContent) here.textContent = s.textContent; });
      else changed(doc);
      follow();
    }, () => setTimeout(follow, 20000));
  }, 2000);
  const changed = doc => {
    const before = new Map(cards(queue).map(c => [c.dataset.id, c.dataset.key])), had = document.activeElement?.closest?.("#queue .card")?.dataset.id, pressed = document.activeElement?.value;
    const news = cards(doc).filter(c => before.has(c.dataset.id) && before.get(c.dataset.id) !== c.dataset.key).map(c => $("h2", c).textContent + ": " + $(".state", c).textContent);
    put(queue, doc);
    if (had) (cards(queue).filter(c => c.dataset.id === had).flatMap(c => $$("button", c)).find(b => b.value === pressed) || $("#outbox-title")).focus();
    const flash = $("#flash"), box = document.createElement("div");
    box.className = "notice";
    box.textContent = news.join("; ");
    if (news.length) flash.replaceChildren(box);
  };
  follow();
}

// Picking.
document.addEventListener("change", e => {
  if (e.target.id === "pick-all") for (const c of $$("#rows input[name=pick]")) c.checked = e.target.checked;
});

// The menu of a narrow window, and the help.
const menu = $(".menu-button"), nav = $("#nav"), help = $("#help");
menu?.addEventListener("click", () => { menu.setAttribute("aria-expanded", String(nav.classList.toggle("open"))); if (nav.classList.contains("open")) $("a", nav)?.focus(); });
$(".help-button")?.addEventListener("click", () => help.showModal());
document.addEventListener("click", e => { for (const d of $$("details.more[open]")) if (!d.contains(e.target)) d.open = false; });
document.addEventListener("keydown", e => {
  if (e.key !== "Escape" || e.defaultPrevented || help?.open) return;
  const d = e.target.closest?.("details.more[open]");
  if (d) { d.open = false; $("summary", d).focus(); }
  else if (nav?.classList.contains("open")) { nav.classList.remove("open"); menu.setAttribute("aria-expanded", "false"); menu.focus(); }
});

// Who works with the keys stays where they were in the list when it comes anew.
let byKeys = false;
document.addEventListener("keydown", () => { byKeys = true; }, true);
document.addEventListener("pointerdown", () => { byKeys = false; }, true);
document.addEventListener("submit", e => {
  if (!byKeys || !["picks", "act"].includes(e.target.id)) return;
  const here = focused() || $("#rows input:checked")?.closest(".row");
  sessionStorage.setItem("at", Math.max(rows().indexOf(here), 0));
});
if (list && sessionStorage.getItem("at") !== null) {
  const all = rows(), at = Number(sessionStorage.getItem("at"));
  sessionStorage.removeItem("at");
  if (!$(".letter", reader)) (all.length ? $("a", all[Math.min(at, all.length - 1)]) : $("#list-title")).focus();
}

// Keys.
const focused = () => document.activeElement?.closest?.("#rows .row") || $("#rows .row.current");
function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(focused()), to = all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)];
  const link = $("a", to);
  link.focus();
  link.scrollIntoView({block: "nearest"});
  if ($(".letter", reader) && matchMedia("(min-width:68.01rem)").matches && at >= 0) open(link.href, true, false);
}
function act(action, key) {
  const here = $(`.reader [data-key="${key}"]`);
  if (here && !document.activeElement?.closest?.("#rows")) { here.click(); return; }
  const row = focused();
  const picked = $$("#rows input[name=pick]:checked");
  if (!picked.length && !row) { here?.click(); return; }
  if (!picked.length) $("input[name=pick]", row).checked = true;
  const b = document.createElement("button");
  b.name = "do"; b.value = action; b.hidden = true;
  const form = $("#picks");
  form.append(b);
  form.requestSubmit(b);
}
const keys = {
  j: () => step(1), k: () => step(-1),
  o: () => { const r = focused(); if (r) open($("a", r).href, true, true); },
  u: () => { const b = $(".reader .back"); if (b) location.href = b.href; },
  x: () => { const r = focused(); if (r) { const c = $("input[name=pick]", r); c.checked = !c.checked; } },
  r: () => $('[data-key="r"]')?.click(), a: () => $('[data-key="a"]')?.click(), f: () => $('[data-key="f"]')?.click(),
  c: () => { location.href = base + "/write"; },
  e: () => act("archive", "e"), "#": () => act("delete", "#"), Delete: () => act("delete", "#"), "!": () => act("junk", "!"),
  s: () => act("flag", "s"), m: () => act("unread", "m"),
  z: () => $("#flash button")?.click(),
  "/": () => { q.focus(); q.select(); },
  "?": () => help.showModal(),
};
document.addEventListener("keydown", e => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && e.target.closest("#letter")) { $('#letter .primary[value=send]')?.click(); return; }
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || help?.open) return;
  if (e.key === "Escape" && e.target === q) { q.blur(); return; }
  if (document.body.dataset.keys === "off" && e.key.length === 1) return;
  if (e.target.closest("input:not([type=checkbox]),textarea,select,[contenteditable]")) return;
  const f = keys[e.key];
  if (f) { e.preventDefault(); f(); }
});

// A letter's HTML stands in a frame of another origin without script, so no key that is pressed there
// comes here. While it has the focus, a button below it says so and leads back; text that was
// selected there can be copied until then.
const frameHas = () => { const out = $("#frame-out"); if (out) out.hidden = document.activeElement?.tagName !== "IFRAME" && document.activeElement !== out; };
window.addEventListener("blur", () => setTimeout(frameHas));
window.addEventListener("focus", () => setTimeout(frameHas));
document.addEventListener("focusin", frameHas);
document.addEventListener("click", e => { if (e.target.id === "frame-out") { $("#letter-title").focus({preventScroll: true}); frameHas(); } });

// An attempt that runs: what it says as it says it, and its questions.
const talk = $("#talk");
if (talk) {
  // What is new is said; the whole would be said again with each step.
  let heard = new Set();
  const tell = () => {
    const lines = $$(".steps li, .tell", talk).map(n => n.textContent.trim()), fresh = lines.filter(l => !heard.has(l));
    heard = new Set(lines);
    if (fresh.length) say(fresh.slice(-3).join(" \n"));
    if ($("#copy")) $("#copy").hidden = false;
  };
  const follow = () => {
    const now = $("#news");
    if (now.dataset.done) { location.reload(); return; }
    if (!now.dataset.running) { ($("#problems") || $("#question"))?.focus(); return; }
    part(location.pathname + "?seen=" + now.dataset.version, "talk", doc => {
      const fresh = $("#news", doc);
      if (!fresh) { location.reload(); return; }
      if (fresh.dataset.version !== now.dataset.version) {
        const asked = $("#question")?.textContent, had = talk.contains(document.activeElement) ? document.activeElement : null;
        put(talk, doc);
        tell();
        const same = had && $$("a,button,input,summary,#question", talk).find(n => n.tagName === had.tagName && n.id === had.id && n.name === had.name && n.value === had.value && n.href === had.href);
        if ($("#question") && $("#question").textContent !== asked) $("#question").focus();
        else if (had) (same || $("#question") || $("button", talk) || $("#main")).focus();
      }
      follow();
    }, () => setTimeout(() => location.reload(), 2000));
  };
  document.addEventListener("click", async e => {
    if (e.target.id !== "copy") return;
    try { await navigator.clipboard.writeText($("#code").textContent); say(e.target.dataset.done); e.target.textContent = e.target.dataset.done; } catch {
      getSelection().selectAllChildren($("#code"));
      say(e.target.dataset.not);
    }
  });
  tell();
  follow();
}

// Writing: saved as you type, files as they are chosen, addresses completed.
const letter = $("#letter");
if (letter) {
  const said = $("#saved"), words = document.body.dataset;
  let timer = 0, saving = false, again = false, leaving = false, dirty = false, beside = false;
  const later = () => { clearTimeout(timer); timer = setTimeout(save, 2500); };
  function typed() {
    const form = new FormData(letter);
    form.delete("file");
    form.set("do", "keep");
    return form;
  }
  // What was typed and not saved when the page goes is saved behind it.
  // A large draft was kept beside its letter, which is written now.
  window.addEventListener("pagehide", () => { if ((dirty || beside) && !leaving) { dirty = beside = false; navigator.sendBeacon(base + "/write", typed()); } });
  async function save() {
    if (leaving) return;
    if (saving) { again = true; return; }
    saving = true;
    said.textContent = words.saving;
    const form = typed();
    dirty = false;
    try {
      const r = await fetch(base + "/write", {method: "POST", body: form, headers: {"X-Poczta-Part": "save"}});
      if (!r.ok) throw r;
      const is = await r.json();
      for (const [name, value] of [["draft", is.draft], ["reply", 0], ["forward", 0]]) letter.elements[name].value = value;
      history.replaceState({}, "", base + "/write?draft=" + is.draft);
      beside = is.beside;
      said.textContent = is.saved;
    } catch { dirty = true; said.textContent = words.notSaved; }
    saving = false;
    if (again && !leaving) { again = false; later(); }
  }
  letter.addEventListener("input", e => { if (e.target.type !== "file") { dirty = true; later(); } });
  letter.addEventListener("submit", e => {
    clearTimeout(timer);
    leaving = true;
    if (saving) { // what is being saved comes first, so that there is one draft
      e.preventDefault();
      const b = e.submitter, wait = () => saving ? setTimeout(wait, 30) : letter.requestSubmit(b);
      wait();
    }
  });
  const attach = $(".attach-button");
  attach.hidden = true;
  $("#file").addEventListener("change", () => letter.requestSubmit(attach));
  for (const field of $$(".complete input")) complete(field);
  const at = $("#" + letter.dataset.focus);
  if (at) { at.focus(); if (at.id === "text") { const below = Math.max(at.value.lastIndexOf("\n\n-- \n"), 0); at.setSelectionRange(below, below); at.blur(); at.focus(); } }
}
if ($("#problems")) $("#problems").focus();

// complete offers people for the last address of a field: a combobox with a list of choices.
function complete(field) {
  const box = document.createElement("ul");
  let timer = 0, at = -1, asked = null;
  box.className = "choices"; box.id = field.id + "-choices"; box.hidden = true;
  box.setAttribute("role", "listbox");
  box.setAttribute("aria-label", field.labels[0].textContent);
  field.after(box);
  for (const [k, v] of Object.entries({role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": box.id})) field.setAttribute(k, v);
  const start = () => Math.max(field.value.lastIndexOf(","), field.value.lastIndexOf(";")) + 1;
  const close = () => { box.hidden = true; at = -1; field.setAttribute("aria-expanded", "false"); field.removeAttribute("aria-activedescendant"); };
  const take = text => {
    const before = field.value.slice(0, start()).trimEnd();
    field.value = (before ? before + " " : "") + text + ", ";
    close();
    field.focus();
    field.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const mark = to => {
    const all = $$("li", box);
    at = (to + all.length) % all.length;
    all.forEach((li, i) => li.setAttribute("aria-selected", String(i === at)));
    field.setAttribute("aria-activedescendant", all[at].id);
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    const text = field.value.slice(start()).trim();
    if (text.length < 1) { close(); return; }
    timer = setTimeout(async () => {
      asked?.abort();
      asked = new AbortController();
      let found = [];
      try { found = await (await fetch(base + "/addresses?q=" + encodeURIComponent(text), {signal: asked.signal})).json(); } catch { return; }
      if (!found.length || document.activeElement !== field) { close(); return; }
      const was = at < 0 ? "" : $$("li", box)[at].textContent;
      box.replaceChildren(...found.map((name, i) => {
        const li = document.createElement("li");
        li.id = box.id + "-" + i;
        li.textContent = name;
        li.setAttribute("role", "option");
        li.setAttribute("aria-selected", "false");
        li.addEventListener("mousedown", e => { e.preventDefault(); take(name); });
        return li;
      }));
      box.hidden = false;
      field.setAttribute("aria-expanded", "true");
      at = -1;
      if (found.includes(was)) mark(found.indexOf(was)); else field.removeAttribute("aria-activedescendant");
    }, 120);
  });
  field.addEventListener("keydown", e => {
    if (box.hidden) return;
    if (e.key === "ArrowDown") mark(at + 1);
    else if (e.key === "ArrowUp") mark(at < 0 ? -1 : at - 1);
    else if (e.key === "Enter" || e.key === "Tab" && at >= 0) take($$("li", box)[Math.max(at, 0)].textContent);
    else if (e.key === "Escape") close();
    else return;
    e.preventDefault();
  });
  field.addEventListener("blur", () => setTimeout(close, 100));
}
})();
