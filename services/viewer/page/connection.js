/**
 * A socket to the viewer that comes back by itself.
 *
 * The viewer sends no more than the page draws: each message is answered with a word once it is drawn. While nobody
 * sees the page, the socket is closed, so that nothing is sent in vain.
 */

const FIRST_DELAY = 250;
const LONGEST_DELAY = 1500;
/** How the viewer closes a socket of who has to sign in (again); a reload leads there. */
const SIGNED_OUT = 4401;

export class Connection {
  #path;
  #receive;
  #report;
  #silence;
  #socket = null;
  #closed = false;
  #delay = FIRST_DELAY;
  #retry = 0;
  #watchdog = 0;

  /**
   * path: of the socket. receive(data): draws a message, text or ArrayBuffer; may be asynchronous. report(open): told
   * when the socket opens and closes. silence: milliseconds without a message after which the socket counts as dead.
   */
  constructor(path, receive, report, silence = Infinity) {
    this.#path = path;
    this.#receive = receive;
    this.#report = report;
    this.#silence = silence;
    document.addEventListener("visibilitychange", this.#follow);
    this.#follow();
  }

  /** Closes the socket for good. */
  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#follow);
    this.#drop();
  }

  #follow = () => {
    if (document.hidden) this.#drop();
    else if (!this.#socket) this.#open();
  };

  #drop() {
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#socket?.close();
    this.#socket = null;
  }

  #open() {
    clearTimeout(this.#retry);
    const socket = new WebSocket(this.#path);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    // One after the other: decoding takes time, and a scene must not be overtaken by a later one.
    let drawing = Promise.resolve();
    socket.onopen = () => {
      this.#delay = FIRST_DELAY;
      this.#report(true);
    };
    socket.onmessage = ({ data }) => {
      this.#expectMore(socket);
      drawing = drawing.then(() => this.#draw(socket, data));
    };
    socket.onclose = ({ code }) => (code === SIGNED_OUT ? location.reload() : this.#lost(socket));
    this.#expectMore(socket);
  }

  async #draw(socket, data) {
    if (socket !== this.#socket) return;
    try {
      await this.#receive(data);
    } catch (error) {
      console.error("a message could not be drawn", error);
    }
    if (socket.readyState === WebSocket.OPEN) socket.send("drawn");
  }

  #expectMore(socket) {
    clearTimeout(this.#watchdog);
    if (this.#silence < Infinity) this.#watchdog = setTimeout(() => this.#lost(socket), this.#silence);
  }

  #lost(socket) {
    if (socket !== this.#socket || this.#closed) return;
    this.#drop();
    this.#report(false);
    if (document.hidden) return;
    this.#retry = setTimeout(() => this.#open(), this.#delay * (0.75 + Math.random() / 2));
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY);
  }
}

/** The address of one of the viewer's sockets. */
export function socketAddress(path, parameters = {}) {
  const url = new URL(path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams(parameters);
  return url.href;
}
