import { SpiffeError } from '../../spiffe/errors.ts'
import type { AdminObject } from './admin-object.ts'
import { decideAdministration, type AdminDecision, type Privileges } from './decide.ts'
import type { AdminRole } from './role.ts'
import type { AdminVerb } from './verb.ts'

export type AdminDenial = Extract<AdminDecision, { allowed: false }> & { readonly verb: AdminVerb }

/** What one call may do: all of it, or what its caller's roles say. Handlers ask it about each object, before they touch it. */
export class AdminAccess {
  static readonly unrestricted = new AdminAccess(undefined)
  readonly #by: RoleAccess | undefined

  private constructor (by: RoleAccess | undefined) { this.#by = by }

  static byRoles (by: RoleAccess): AdminAccess { return new AdminAccess(by) }

  /** Whether there is anything to ask: if not, lists need no filter. */
  get isRestricted (): boolean { return this.#by !== undefined }

  /** For filters: says nothing to anybody. */
  covers (verb: AdminVerb, object: AdminObject): boolean { return this.#deny(verb, object) === undefined }

  /** A filter that keeps what is covered; `undefined` where everything is. */
  filter<T> (verb: AdminVerb, objectOf: (item: T) => AdminObject): ((item: T) => boolean) | undefined {
    return this.isRestricted ? item => this.covers(verb, objectOf(item)) : undefined
  }

  /** `administration_denied`, which names the part that is outside; the operator finds the value in the log. */
  refusal (verb: AdminVerb, object: AdminObject | undefined): SpiffeError | undefined {
    const denial = this.#deny(verb, object)
    if (denial === undefined) return undefined
    this.#by?.onDenied(denial)
    const { outside, value, role } = denial
    const what = outside === 'verb' ? `no role of yours grants ${value} here` : `the ${outside} is outside your role "${role}"`
    return new SpiffeError('administration_denied', what, { details: { verb, outside } })
  }

  /** @throws {SpiffeError} `administration_denied` */
  require (verb: AdminVerb, object?: AdminObject): void {
    const refusal = this.refusal(verb, object)
    if (refusal !== undefined) throw refusal
  }

  #deny (verb: AdminVerb, object: AdminObject | undefined): AdminDenial | undefined {
    if (this.#by === undefined) return undefined
    const decision = decideAdministration(this.#by.roles, verb, object, this.#by.privileges)
    return decision.allowed ? undefined : { ...decision, verb }
  }
}

export interface RoleAccess {
  readonly roles: readonly AdminRole[]
  readonly privileges: Privileges
  /** For the operator's eyes. */
  readonly onDenied: (denial: AdminDenial) => void
}
