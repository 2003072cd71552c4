/** One of a path's parts: itself, any one that is not empty (`{*}`), or any number of them (`{**}`, the last of the operators). */
type Part = string | typeof one | typeof rest
const one = Symbol('{*}')
const rest = Symbol('{**}')

/** A path in which `{*}` stands for one segment and a last `{**}` for any number, none included, as Envoy's URI templates have it. */
export class PathTemplate {
  readonly text: string
  readonly #parts: readonly Part[]

  private constructor (text: string, parts: readonly Part[]) {
    this.text = text
    this.#parts = parts
  }

  /** @returns `undefined` when it is no such template: braces around anything else, or beside other characters of a segment */
  static parse (text: string): PathTemplate | undefined {
    if (!text.startsWith('/') || text.length > 2_048) return undefined
    const segments = text.slice(1).split('/')
    const parts = segments.map((segment): Part => segment === '{*}' ? one : segment === '{**}' ? rest : segment)
    const rests = parts.indexOf(rest)
    const plain = parts.every((part, i) => typeof part === 'string' ? /^[^{}*?#\\;]*$/.test(part) : rests < 0 || i <= rests)
    return plain ? new PathTemplate(text, parts) : undefined
  }

  /** What all paths it matches begin with, up to the first operator. */
  get literal (): string { return this.text.slice(0, this.text.indexOf('{')) }

  matches (path: string): boolean {
    if (!path.startsWith('/')) return false
    let at = 1
    for (const [i, part] of this.#parts.entries()) {
      const isLast = i === this.#parts.length - 1
      if (part === rest) return isLast || path.slice(at).endsWith(`/${this.#parts.slice(i + 1).join('/')}`)
      const slash = path.indexOf('/', at)
      const end = slash < 0 ? path.length : slash
      if (isLast !== (slash < 0)) return false
      if (part === one ? end === at : path.slice(at, end) !== part) return false
      at = end + 1
    }
    return true
  }
}
