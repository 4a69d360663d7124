// One run: where it is, what it asks, what came of it, and whether the hashes are right.
import { call, patiently, problemNote, sleep, waitingNote } from "./api.js";
import { badge, code, copyButton, el, everySecond, facts, moment, say, spanOf } from "./dom.js";
import { Form, hasSecrets } from "./form.js";
import { canHash, inputHash, resultHash } from "./hash.js";
import { change, find, isOver, pauses, remove, runs } from "./runs.js";
import { readable } from "./text.js";
import { chainOf, inSandbox, pay, purchaseOf, resultHashForm } from "./wallet.js";

const LOOK_AT_CHAIN_MS = 2000;
const STATES = {
  ordering: ["busy", "Being ordered"],
  refused: ["bad", "Not ordered"],
  awaiting_payment: ["warn", "Awaits payment"],
  running: ["busy", "At work"],
  awaiting_input: ["warn", "Asks you something"],
  completed: ["good", "Completed"],
  failed: ["bad", "Failed"],
  unknown: ["bad", "Unknown"],
};

/** The status of the run, or what stands in for one before the service has told it. */
function phaseOf(run) {
  if (run.refused) return "refused";
  if (!run.started) return "ordering";
  return run.status?.status || (run.free ? "running" : "awaiting_payment");
}

/** Its colour and its name. */
export const stateOf = (run) => STATES[phaseOf(run)];

export function runPage(key, { signal }) {
  return new RunPage(key, signal).element;
}

const note = (text) => el("p", { class: "notice wait" }, text);

class RunPage {
  constructor(key, signal) {
    Object.assign(this, { key, signal, seen: null });
    this.head = el("div", { class: "head" });
    this.track = el("div");
    this.pause = el("div");
    this.body = el("div", { class: "stack" });
    this.proofs = el("div");
    const parts = [this.head, this.track, this.pause, this.body, this.proofs];
    this.element = el("article", { class: "page" }, ...parts);
    const draw = (event) => { if (!event.detail || event.detail === key) this.draw(); };
    runs.addEventListener("changed", draw, { signal });
    const pause = () => this.pause.replaceChildren(waitingNote(...(pauses.get(key) || [null])));
    runs.addEventListener("paused", pause, { signal });
    pause();
    this.draw();
  }

  draw() {
    const run = find(this.key);
    if (!run) {
      this.element.replaceChildren(el("h1", {}, "No such run"),
        el("p", {}, "It was not ordered in this browser, or was removed from its list. ",
          el("a", { href: "#/runs" }, "Your runs")));
      return;
    }
    const [kind, words] = stateOf(run);
    this.head.replaceChildren(
      el("p", { class: "crumb" }, el("a", { href: "#/runs" }, "Your runs"), " /"),
      el("div", { class: "spread" }, el("h1", {}, run.name), badge(kind, words)),
      el("p", { class: "quiet" }, `${run.variant} · ${run.price} · ordered `, moment(run.ordered)));
    this.track.replaceChildren(track(run));
    // Nothing that somebody is filling in, or has just clicked, is drawn again for nothing.
    const phase = phaseOf(run);
    const asked = phase === "awaiting_input" && run.status.id;
    const now = JSON.stringify([phase, asked, run.paid, run.sent]);
    if (now === this.seen) return;
    if (this.seen !== null) say(`${run.name}: ${words}.`);
    this.seen = now;
    this.body.replaceChildren(...this.parts(run));
    this.proofs.replaceChildren(this.proofsOf(run));
  }

  parts(run) {
    const shown = {
      ordering: () => note("The order is on its way."),
      refused: () => el("p", { class: "notice bad" }, run.refused),
      awaiting_payment: () => paymentOf(run),
      awaiting_input: () => this.question(run),
      running: () => note("The flow is at work. The result will stand here; you may close the page meanwhile."),
      completed: () => resultOf(run),
      failed: () => failureOf(run),
      unknown: () => failureOf(run),
    };
    const parts = [shown[phaseOf(run)]()];
    if (isOver(run)) {
      const forget = () => { remove(run.key); location.hash = "#/runs"; };
      parts.push(el("p", { class: "actions" },
        el("a", { class: "button", href: `#/flow/${run.flow}+${run.variant}` }, "Buy another run"),
        el("button", { type: "button", onclick: forget }, "Remove from the list")));
    }
    return parts;
  }

  question(run) {
    const schema = run.status.input_schema;
    if (run.sent === run.status.id) return note("Your answer is in; the flow goes on with it.");
    const notes = el("div");
    const form = new Form(schema, { label: "Answer", send });
    const { signal } = this;
    async function send(input) {
      form.busy(true);
      try {
        const body = { job_id: run.started.id, status_id: run.status.id, input_data: input };
        const receipt = await patiently(() => call(`${run.flow}/provide_input`, { body, signal }), {
          signal,
          waiting: (problem, until) => notes.replaceChildren(waitingNote(problem, until)),
        });
        const answer = { input: hasSecrets(schema) ? null : input, input_hash: receipt.input_hash };
        const answers = [...(find(run.key)?.answers || []), answer];
        change(run.key, { sent: run.status.id, answers });
      } catch (error) {
        const shown = error.errors?.length > 0 && form.show(error.errors);
        if (error.name !== "AbortError" && !shown) notes.replaceChildren(problemNote(error));
      } finally {
        form.busy(false);
      }
    }
    return el("section", { class: "panel ask", "aria-labelledby": "question" },
      el("h2", { id: "question" }, "The flow asks you"), form.element, notes);
  }

  proofsOf(run) {
    if (!run.started) return "";
    const given = ({ input, input_hash: told }, name) => proof(name, told,
      input && (() => inputHash(run.identifier, input)), "the service has the very input you gave");
    const rows = [
      given({ input: run.input, input_hash: run.started.input_hash }, "Input"),
      ...(run.answers || []).map((answer) => given(answer, "Answer")),
    ];
    if (run.status?.status === "completed") rows.push(this.resultProof(run));
    return el("details", { class: "panel", open: true }, el("summary", {}, "Proofs"),
      el("p", { class: "quiet" }, canHash
        ? "Worked out in your browser (MIP-004: SHA-256 over canonical JSON), then compared."
        : "Your browser can work out hashes only on https; these are the service's own words."),
      el("div", { class: "proofs" }, ...rows));
  }

  resultProof(run) {
    const row = el("div");
    const { signal } = this;
    const draw = async () => {
      const own = canHash ? await resultHash(run.identifier, run.status.result, resultHashForm) : "";
      const where = run.free ? "A free run is not recorded on chain." : "Compare it with the one on chain.";
      row.replaceChildren(proofRow("Result", own || "–", null, where));
      if (!own || run.free || !inSandbox) return;
      for (;;) {
        const { resultHash: there } = await chainOf(run.started);
        if (there) {
          row.replaceChildren(verdict("Result", there, own, "the chain holds the hash of this very result"));
          return;
        }
        await sleep(LOOK_AT_CHAIN_MS, signal);
      }
    };
    // Where the sandbox is out of reach, what was shown before stays.
    draw().catch(() => null);
    return row;
  }
}

/** Where the run is, as a row of stations. */
function track(run) {
  const phase = phaseOf(run);
  const asked = phase === "awaiting_input" || run.answers?.length;
  const names = ["Order", !run.free && "Payment", asked && "Question", "Work", "Result"].filter(Boolean);
  const failed = ["failed", "unknown", "refused"].includes(phase);
  const stopped = run.began ? "Work" : run.free || !run.started ? "Order" : "Payment";
  const reached = { awaiting_payment: "Payment", awaiting_input: "Question", running: "Work", ordering: "Order" };
  const at = phase === "completed" ? names.length : names.indexOf(failed ? stopped : reached[phase]);
  const station = (name, i) => el("li", {
    class: i < at ? "done" : i === at ? (failed ? "failed" : "now") : "",
    "aria-current": i === at && "step",
  }, el("span", {}, name));
  return el("ol", { class: "track", "aria-label": "Progress" }, ...names.map(station));
}

const EXPIRED = "The time to pay is over. A payment on its way may still arrive;"
  + " otherwise the run ends unpaid, and nothing is charged.";

function paymentOf(run) {
  const { started } = run;
  const left = el("strong");
  const due = el("p", {}, "To be paid within ", left, ".");
  everySecond(due, () => {
    const ms = started.payByTime - Date.now();
    if (ms > 0) left.textContent = spanOf(ms);
    else due.textContent = EXPIRED;
  });
  const request = JSON.stringify(purchaseOf(started), null, 2);
  const how = inSandbox && run.byHand ? payButton(run) : el("p", {}, inSandbox
    ? "The sandbox pays by itself within seconds."
    : "Pay it with your wallet: the payment request below is what its purchase API takes.");
  return el("section", { class: "panel pay", "aria-labelledby": "terms" },
    el("div", { class: "spread" }, el("h2", { id: "terms" }, "Payment"),
      inSandbox && badge("sandbox", "Sandbox: no real money")),
    due,
    facts(["Amount", run.price], ["Pay until", moment(started.payByTime)],
      ["Result until", moment(started.submitResultTime), " else it comes back to you"],
      ["Blockchain identifier", code(started.blockchainIdentifier), copyButton(started.blockchainIdentifier)]),
    how,
    el("details", { open: !inSandbox }, el("summary", {}, "Payment request, for a wallet"),
      el("pre", { tabindex: "0" }, request), copyButton(request, "Copy the request")));
}

function payButton(run) {
  if (run.paid) return note("Paid. The service learns of it from the chain, in a moment.");
  const notes = el("div");
  const button = el("button", { type: "button", class: "primary", onclick: click }, "Pay in the sandbox");
  async function click() {
    button.disabled = true;
    try {
      await pay(run.started);
      change(run.key, { paid: true });
    } catch (error) {
      button.disabled = false;
      notes.replaceChildren(problemNote(error));
    }
  }
  return el("div", {}, button, notes);
}

function resultOf(run) {
  const { result } = run.status;
  const shown = el("div", {}, readable(result));
  const pressed = { type: "button", class: "small", "aria-pressed": "false", onclick: flip };
  const raw = el("button", pressed, "As it was sent");
  function flip() {
    const is = raw.getAttribute("aria-pressed") === "false";
    raw.setAttribute("aria-pressed", String(is));
    shown.replaceChildren(is ? el("pre", { tabindex: "0" }, result) : readable(result));
  }
  return el("section", { class: "panel result", "aria-labelledby": "result" },
    el("div", { class: "spread" }, el("h2", { id: "result" }, "Result"),
      el("span", { class: "buttons" }, raw, copyButton(result))),
    shown);
}

function failureOf(run) {
  const { status, message } = run.status;
  const until = run.started.submitResultTime;
  const what = run.began || run.paid ? "What you paid" : "If you paid for it all the same, that";
  const back = until && el("p", {}, `${what} comes back by itself after `, moment(until), ".");
  return el("section", { class: "notice bad" },
    el("h2", {}, status === "failed" ? "The run failed" : "Lost sight of"),
    el("p", {}, message || "The service gives no reason."), back);
}

/** A hash told and the same worked out here, compared. */
function proof(name, told, own, meaning) {
  const kept = canHash && !own ? "Not compared: what was sent is not kept." : "";
  const row = el("div", {}, proofRow(name, told, null, kept));
  if (canHash && own) own().then((hash) => row.replaceChildren(verdict(name, told, hash, meaning)));
  return row;
}

function verdict(name, told, own, meaning) {
  if (told === own) return proofRow(name, told, true, `Right: ${meaning}.`);
  return proofRow(name, told, false, `Wrong: your browser works out ${own}.`);
}

function proofRow(name, hash, holds, words) {
  const mark = holds === null ? "–" : holds ? "✓" : "✗";
  const kind = holds === null ? "" : holds ? "good" : "bad";
  return el("div", { class: `proof ${kind}` },
    el("span", { class: "mark", "aria-hidden": "true" }, mark),
    el("div", {}, el("p", {}, el("strong", {}, `${name} hash`), words && ` · ${words}`), code(hash)));
}
