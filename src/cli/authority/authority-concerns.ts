import type { Concern } from '../convergence/await-convergence.ts'
import type { AuthorityVerb } from './authority-calls.ts'

/** Every agent holds the bundle; one that could not have what the tainted authority signed replaced has not taken the taint over. */
export const authorityConcerns: Readonly<Record<AuthorityVerb | 'prepare', Concern>> = {
  prepare: { entryIds: [] },
  activate: { entryIds: [] },
  taint: { entryIds: [], mustServe: 'any' },
  revoke: { entryIds: [] }
}
