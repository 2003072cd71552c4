import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { selectorListKey } from '../spiffe/selected-ids.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Policies, SelectedIds as SelectedIdsMessage } from '../wire/generated/agent-sync.ts'
import { DocumentParts } from '../wire/policy-codec.ts'
import type { PolicyPush } from './node-policies.ts'

/** Puts what came of policies in the messages of one step together. */
export class PushedPolicyParts {
  readonly #documents = new DocumentParts()
  readonly #selected = new Map<string, { readonly ids: Set<SpiffeId>, readonly removedIds: Set<SpiffeId> }>()
  #first: Policies | undefined

  /** @throws {SpiffeError} `message_malformed`: a policy that cannot be understood must not be passed over in silence */
  add (part: Policies): void {
    this.#first ??= part
    if (part.version !== this.#first.version) throw malformed('one step has parts of two versions')
    try {
      this.#documents.add(part.documents)
      for (const one of part.selected) this.#addSelected(one)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      throw malformed((error as Error).message, error)
    }
  }

  /** @returns `undefined` when nothing changed. @throws {SpiffeError} `message_malformed` */
  end (): PolicyPush | undefined {
    if (this.#first === undefined) return undefined
    const { whole, version, revision } = this.#first
    if (!whole) return { kind: 'selected', version: Number(version), changes: this.#selected }
    const selected = new Map([...this.#selected].map(([key, { ids }]) => [key, ids]))
    return { kind: 'whole', pushed: { version: Number(version), revision, texts: this.#texts(), selected } }
  }

  #texts () {
    try {
      return this.#documents.end()
    } catch (error) {
      throw malformed((error as Error).message, error)
    }
  }

  #addSelected ({ selectors, ids, removedIds }: SelectedIdsMessage): void {
    const key = selectorListKey(selectors)
    const known = this.#selected.get(key) ?? { ids: new Set(), removedIds: new Set() }
    this.#selected.set(key, known)
    for (const id of ids) known.ids.add(parseSpiffeId(id))
    for (const id of removedIds) known.removedIds.add(parseSpiffeId(id))
  }
}

function malformed (reason: string, cause?: unknown): SpiffeError {
  return new SpiffeError('message_malformed', `the server pushed policies that cannot be read: ${reason}`, { cause })
}
