
const live = document.getElementById("live"), link = document.getElementById("link");
const source = new EventSource("live");
source.onmessage = (e) => {
  const at = [...live.querySelectorAll(".scroll")].map((x) => x.scrollTop);
  live.innerHTML = e.data;
  [...live.querySelectorAll(".scroll")].forEach((x, i) => { x.scrollTop = at[i] || 0; });
  link.textContent = "Live, as of " + new Date().toLocaleTimeString() + ".";
};
source.onerror = () => {
  link.textContent = "As it was at the last word: the program has ended, or is out of reach. " +
    "This page goes on by itself when it is back.";
};
