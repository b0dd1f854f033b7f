// Arrows, space and page keys go from slide to slide; N shows the notes. What is too long for its slide gets smaller.
const slides = [...document.querySelectorAll(".slide")];
const now = () => slides.reduce((best, slide, i) =>
  Math.abs(slide.getBoundingClientRect().top) < Math.abs(slides[best].getBoundingClientRect().top) ? i : best, 0);

function fit() {
  for (const slide of slides) {
    const box = slide.querySelector(".fit");
    let size = 100;
    do box.style.fontSize = `${size}%`;
    while (box.scrollHeight > box.clientHeight && (size -= 5) >= 55);
    for (const part of [box, ...box.querySelectorAll("pre, .formula, div")])
      if (part.scrollHeight > part.clientHeight || part.scrollWidth > part.clientWidth) part.tabIndex = 0;  // For the keyboard.
  }
}

document.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 }[event.key];
  if (event.key === "n" || event.key === "N") document.body.classList.toggle("with-notes");
  else if (step) slides[Math.min(Math.max(now() + step, 0), slides.length - 1)].scrollIntoView();
  else if (event.key === "Home") slides[0].scrollIntoView();
  else if (event.key === "End") slides.at(-1).scrollIntoView();
  else return;
  event.preventDefault();
  fit();
});
addEventListener("resize", fit);
addEventListener("load", fit);
