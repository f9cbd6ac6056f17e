"use strict";
const $ = (id) => document.getElementById(id);
function made(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}
