import { encodeMessage } from '../../wire/encode-message.ts'
import { CheckResponse, type CheckResponseInit } from '../../wire/generated/envoy-authorization.ts'
import { HeaderValueOption_HeaderAppendAction as AppendAction, type HeaderValueOptionInit } from '../../wire/generated/envoy-core.ts'
import type { StructInit } from '../../wire/generated/well-known.ts'
import type { Decided, Verdict } from '../decider.ts'
import { jsonToStruct } from '../../wire/struct-json.ts'

const ok = 0
const permissionDenied = 7
const deniedBody = 'denied by policy\n'

/** Encodes answers, those of rules once each: there are few. */
export class CheckResponses {
  #revision = ''
  readonly #allowed = new Map<string, Uint8Array>()
  readonly #denied = new Map<string, Uint8Array>()

  /** @returns for reading alone: it is the same for all who are answered so */
  encode (decided: Decided): Uint8Array {
    const { allowed, revision, verdict, bundles } = decided
    if (verdict !== undefined || bundles !== undefined) return encodeMessage(CheckResponse, responseTo(decided))
    const known = allowed ? this.#allowed : this.#denied
    // Of rules that are no more; and foreign trust domains may be any number.
    if (revision !== this.#revision || known.size >= mostKnown) this.#forget(revision)
    const key = keyOf(decided)
    let bytes = known.get(key)
    if (bytes === undefined) known.set(key, bytes = encodeMessage(CheckResponse, responseTo(decided)))
    return bytes
  }

  #forget (revision: string): void {
    this.#revision = revision
    this.#allowed.clear()
    this.#denied.clear()
  }
}

const mostKnown = 65_536

/** What an answer of this revision is known by. For most it is a text that is there already: names of rules have a slash, reasons none. */
function keyOf ({ reason, rule, shadow }: Decided): string {
  if (shadow !== undefined) return `${reason} ${rule} ${shadow.allowed} ${shadow.rule}`
  return rule === undefined ? reason : reason === 'rule' ? rule : `${reason} ${rule}`
}

/** The caller learns that policy refused it; which rule did is for the access log (`dynamic_metadata`) and the decision log. */
export function responseTo (decided: Decided): CheckResponseInit {
  const { allowed, verdict } = decided
  const dynamicMetadata = metadataOf(decided)
  if (!allowed) {
    return {
      status: { code: permissionDenied },
      deniedResponse: {
        status: { code: verdict?.httpStatus ?? 403 }, headers: (verdict?.headers ?? []).map(setHeader), body: verdict?.body ?? deniedBody
      },
      dynamicMetadata
    }
  }
  return {
    status: { code: ok },
    okResponse: {
      headers: (verdict?.headers ?? []).map(setHeader),
      headersToRemove: verdict?.headersToRemove ?? [],
      responseHeadersToAdd: (verdict?.responseHeaders ?? []).map(setHeader)
    },
    dynamicMetadata
  }
}

/** Read by access logs as `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%`. */
function metadataOf ({ allowed, reason, rule, revision, shadow, verdict, bundles }: Decided): StructInit {
  return jsonToStruct({
    ...verdict?.metadata,
    allowed,
    reason,
    revision,
    ...rule === undefined ? {} : { rule },
    ...bundles === undefined ? {} : { bundles: Object.fromEntries(bundles) },
    ...shadow === undefined ? {} : { shadow_allowed: shadow.allowed, ...shadow.rule === undefined ? {} : { shadow_rule: shadow.rule } }
  })
}

function setHeader ([key, value]: NonNullable<Verdict['headers']>[number]): HeaderValueOptionInit {
  return { header: { key, value }, appendAction: AppendAction.OVERWRITE_IF_EXISTS_OR_ADD }
}
