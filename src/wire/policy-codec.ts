import { SpiffeError } from '../spiffe/errors.ts'
import { policyLimits, type PolicyDocumentText } from '../spiffe/policy-version.ts'
import type { PolicyDocument, PolicyDocumentInit } from './generated/assay-types.ts'

/** Characters per message; at most three bytes each, so that it stays below what gRPC takes by default. */
const pageLength = 512 * 1_024

/** Texts in messages that are not too long; one that is goes on in the next. At least one page. */
export function * documentPages (texts: readonly PolicyDocumentText[]): Generator<PolicyDocumentInit[], void, undefined> {
  let page: PolicyDocumentInit[] = []
  let left = pageLength
  for (const { name, text } of texts) {
    for (let start = 0; ;) {
      const end = endOf(text, start, left)
      const more = end < text.length
      page.push({ name, text: text.slice(start, end), more })
      left -= end - start + name.length
      start = end
      if (left <= 0 || more) {
        yield page
        page = []
        left = pageLength
      }
      if (!more) break
    }
  }
  if (page.length > 0 || texts.length === 0) yield page
}

/** Not between the two halves of a character. */
function endOf (text: string, start: number, left: number): number {
  const end = start + Math.max(left, 2)
  if (end >= text.length) return text.length
  const last = text.charCodeAt(end - 1)
  return last >= 0xd800 && last <= 0xdbff ? end - 1 : end
}

/** Puts the parts of texts together. */
export class DocumentParts {
  readonly #texts: PolicyDocumentText[] = []
  #open: { readonly name: string, readonly parts: string[] } | undefined
  #length = 0

  /** @throws {SpiffeError} `policy_malformed` when they are too many or too long, or a part is missing */
  add (documents: readonly PolicyDocument[]): void {
    for (const { name, text, more } of documents) {
      this.#length += text.length + name.length
      if (this.#length > policyLimits.bytes + policyLimits.texts * policyLimits.nameLength || this.#texts.length > policyLimits.texts) {
        const most = `${policyLimits.texts} texts of ${policyLimits.bytes} bytes in all`
        throw new SpiffeError('policy_malformed', `there is more than ${most}`)
      }
      if (this.#open !== undefined && this.#open.name !== name) throw missing(this.#open.name)
      this.#open ??= { name, parts: [] }
      this.#open.parts.push(text)
      if (more) continue
      this.#texts.push({ name, text: this.#open.parts.join('') })
      this.#open = undefined
    }
  }

  /** @throws {SpiffeError} `policy_malformed` */
  end (): readonly PolicyDocumentText[] {
    if (this.#open !== undefined) throw missing(this.#open.name)
    return this.#texts
  }
}

function missing (name: string): SpiffeError {
  return new SpiffeError('policy_malformed', `the rest of ${JSON.stringify(name)} is missing`)
}
