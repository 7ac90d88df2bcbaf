// SPDX-License-Identifier: Apache-2.0
// Live progress, dropped files, and confirmation before irreversible actions.
// Every page also works without this script, but must then be reloaded by hand.
"use strict";

(() => {
  const span = (seconds) => {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} seconds`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
    return `${(seconds / 3600).toFixed(1)} hours`;
  };

  // Follow a job. The bar is updated with every event, the text for screen readers at most every 15 seconds.
  const follow = (box) => {
    const bar = box.querySelector("progress");
    const words = box.querySelector("[data-words]");
    const spoken = box.querySelector("[data-spoken]");
    let last = 0;
    const source = new EventSource(box.dataset.events);
    const show = (text) => {
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
      show(parts.join(", ") || now.line || "working");
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
    // Keep the browser from opening a file that is dropped outside the zone.
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
  // After a failed htmx request, reload the page, which then shows the error.
  document.addEventListener("htmx:responseError", () => window.location.reload());
  document.addEventListener("DOMContentLoaded", () => ready(document));
  document.addEventListener("htmx:load", (event) => {
    if (event.target !== document.body) ready(event.target);
  });
})();
