// Puts the charts under the table of the tab "Neo4j connections": Locust's own tabs can hold a table and nothing else.
// Where Locust's page is built otherwise one day, the tab keeps its table, and the charts their own page.
"use strict";

(() => {
  let frame = null;

  function place() {
    const wanted = new URLSearchParams(location.search).get("tab") === "neo4j";
    const container = document.querySelector("main .MuiContainer-root");
    if (!wanted || !container) {
      frame?.remove();
      frame = null;
    } else if (!frame?.isConnected) {
      frame = document.createElement("iframe");
      frame.src = "./neo4j";
      frame.title = "Charts of Neo4j's connections";
      frame.style.cssText = "width: 100%; border: 0; height: 60rem; color-scheme: normal;";
      frame.addEventListener("load", () => {
        new ResizeObserver(() => {
          frame.style.height = `${frame.contentDocument.documentElement.scrollHeight + 8}px`;
        }).observe(frame.contentDocument.body);
      });
      container.append(frame);
    }
  }

  // What is to be tested stands in a part of the form that Locust shows closed: it is opened once for each form.
  function open() {
    const closed = [...document.querySelectorAll("form button[aria-expanded=false]")]
      .find((part) => part.textContent.includes("Custom parameters") && !part.dataset.opened);
    if (closed) {
      closed.dataset.opened = "yes";
      closed.click();
    }
  }

  new MutationObserver(() => { place(); open(); }).observe(document.body, { childList: true, subtree: true });
  addEventListener("popstate", place);
})();
