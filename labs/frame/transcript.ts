/** What a lab has printed: shown as it comes, and kept by step for its page. */
export class Transcript {
  readonly #out: (text: string) => void
  readonly #steps = new Map<string, string[]>()
  #lines: string[] = []

  constructor (out: (text: string) => void) { this.#out = out }

  /** Title → its lines, in order. */
  get steps (): ReadonlyMap<string, readonly string[]> { return this.#steps }
  get step (): string { return [...this.#steps.keys()].at(-1) ?? 'the beginning' }

  /** Titles are the headings of the page: each is used once. */
  begin (title: string): void {
    if (this.#steps.has(title)) throw new Error(`two steps have the title: ${title}`)
    this.#lines = []
    this.#steps.set(title, this.#lines)
    this.#out(`\n== ${title}\n`)
  }

  /** @param text one line or several; white space at their ends is left out */
  print (text: string): void {
    if (text === '') return
    const lines = text.replace(/\n$/, '').split('\n').map(line => line.trimEnd())
    this.#lines.push(...lines)
    this.#out(`${lines.join('\n')}\n`)
  }
}
