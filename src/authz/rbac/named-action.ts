import { Action as NamedAction, RBAC_Action } from '../../wire/generated/envoy-rbac.ts'
import type { XdsMatcher_OnMatchInit as OnMatchInit } from '../../wire/generated/xds-matcher.ts'
import { extension, type Extension } from './extension.ts'

/** What a leaf of the matching API says, and in whose name. */
export function namedAction (name: string, action: number): Extension {
  return extension('envoy.filters.rbac.action', NamedAction, { name, action })
}

/** Without a match Envoy refuses; this says that the request may go on. */
export const goOn: OnMatchInit = { action: namedAction('none', RBAC_Action.ALLOW) }
