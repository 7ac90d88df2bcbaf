// SPDX-License-Identifier: Apache-2.0
// What pages do beyond forms and links: progress as it happens, a file dropped, a question before a deed.
// Without this file every page works; it only has to be loaded again by hand.
"use strict";

(() => {
  const span = (seconds) => {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} seconds`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
    return `${(seconds / 3600).toFixed(1)} hours`;
  };

  // Progress of a job. The bar moves with every event; the words that a screen reader speaks change seldom.
  const follow = (box) => {
    const bar = box.querySelector("progress");
    const words = box.querySelector("[data-words]");
    const spoken = box.querySelector("[data-spoken]");
    let last = 0;
    const source = new EventSource(box.dataset.events);
    const tell = (text) => {
      words.textContent = text;
      if (Date.now() - last > 15000) {
        last = Date.now();
        spoken.textContent = text;
      }
    };
    const onProgress = (event) => {
      const job = JSON.parse(event.data);
      const now = job.progress || {};
      if (job.state === "running") box.querySelector("[data-state]").textContent = "runs";
      const share = now.total > 0 ? Math.min(now.done / now.total, 1) : null;
      if (share !== null) bar.value = share;
      const parts = [];
      if (now.label) parts.push(now.label);
      if (share !== null) parts.push(`${Math.round(100 * share)} %`);
      if (typeof now.seconds_left === "number") parts.push(`about ${span(now.seconds_left)} left`);
      tell(parts.join(", ") || now.line || "at work");
    };
    const onEnd = () => {
      source.close();
      spoken.textContent = "The work has ended. The page is loaded again.";
      window.location.reload();
    };
    source.addEventListener("progress", onProgress);
    source.addEventListener("end", onEnd);
  };

  const droppable = (form) => {
    const input = form.querySelector("input[type=file]");
    const zone = form.querySelector(".drop");
    const over = (on) => (event) => {
      event.preventDefault();
      zone.classList.toggle("over", on);
    };
    zone.addEventListener("dragover", over(true));
    zone.addEventListener("dragleave", over(false));
    zone.addEventListener("drop", (event) => {
      over(false)(event);
      if (event.dataTransfer.files.length === 1) {
        input.files = event.dataTransfer.files;
        form.requestSubmit();
      }
    });
    // A file that misses the zone must not be opened in place of the page.
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => event.preventDefault());
  };

  const ready = (root) => {
    root.querySelectorAll("[data-events]").forEach(follow);
    root.querySelectorAll("form[data-drop]").forEach(droppable);
  };

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.ask;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  // What htmx could not put into the page is told by the whole page, as it is without script.
  document.addEventListener("htmx:responseError", () => window.location.reload());
  document.addEventListener("DOMContentLoaded", () => ready(document));
  document.addEventListener("htmx:load", (event) => {
    if (event.target !== document.body) ready(event.target);
  });
})();
