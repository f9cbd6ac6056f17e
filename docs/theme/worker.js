// Browsers run no worker that lies on the disk. The search's sets `self.onmessage` and calls `self.postMessage`, no more,
// so a frame will do. On a server nothing is changed.
if (location.protocol === "file:") {
  window.Worker = class {
    #frame = document.createElement("iframe");
    #ready;

    constructor(url) {
      this.#frame.hidden = true;
      document.documentElement.append(this.#frame);
      const inner = this.#frame.contentWindow;
      inner.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      const script = inner.document.createElement("script");
      script.src = new URL(url, location);
      this.#ready = new Promise((loaded) => {
        script.onload = loaded;
        script.onerror = (event) => this.onerror?.(event);
      });
      inner.document.documentElement.append(script);
    }

    postMessage(data) {
      this.#ready.then(() => this.#frame.contentWindow?.onmessage?.({ data }));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
