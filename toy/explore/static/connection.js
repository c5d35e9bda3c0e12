// The line to the server: it says when it is lost, and tries again until the server is back.

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 4000;

export class Connection {
  /** `hear(message)` gets what the server sends; `changed(open, again)` hears when the line opens or breaks. */
  constructor(hear, changed) {
    Object.assign(this, { hear, changed, wait: FIRST_WAIT, opened: 0, refused: false });
    this.open();
  }

  open() {
    this.socket = new WebSocket(`ws://${location.host}/socket`);
    this.socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.opened += 1;
      this.changed(true, this.opened > 1);
    };
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = (event) => {
      if (event.code === 1013) return; // too many pages: the server has said so
      this.changed(false, this.opened > 0);
      this.retry();
    };
  }

  retry() {
    setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
