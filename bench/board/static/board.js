"use strict";
// Shows the prepared ranking of a radius and a budget, and keeps the choice in the address: #r=2&b=0.

const $ = (id) => document.getElementById(id);
const choices = JSON.parse($("choices").textContent);
const radii = [...document.querySelectorAll("input[name=radius]")];

function show() {
  const radius = radii.findIndex((radio) => radio.checked);
  const wanted = choices[radius][$("budget").value];
  $("answer").replaceChildren($(`answer-${wanted}`).content.cloneNode(true));
  return radius;
}

function choose() {
  const radius = show();
  history.replaceState(null, "", `#r=${radius}&b=${$("budget").value}`);
}

function restore() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const radius = radii[asked.get("r") ?? NaN];
  if (!radius) return;
  radius.checked = true;
  if (choices[0][asked.get("b")] !== undefined) $("budget").value = asked.get("b");
  show();
}

for (const control of [...radii, $("budget")]) control.addEventListener("change", choose);
addEventListener("hashchange", restore);
restore();
