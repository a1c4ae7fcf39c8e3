// The widget manager typesets labels by MathJax 2's queue, which MathJax 3 does not have.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax || window.MathJax.Hub) return;
  window.MathJax.Hub = {
    Queue: ([command, , element]) =>
      command === "Typeset" && window.MathJax.typesetPromise?.([element]),
  };
});
