/** What an Envoy said about itself; believed only for the shape of answers, never for who it is. */
export interface EnvoyNode {
  readonly id: string
  /** Major and minor of `user_agent_build_version`, if given. */
  readonly version: { readonly major: number, readonly minor: number } | undefined
  /** `disable_spiffe_cert_validation` of its metadata, if given. */
  readonly disableSpiffeCertValidation: boolean | undefined
}

/** Form of the validation contexts an Envoy gets: its SPIFFE validator's configuration, or a plain list of CA certificates. */
export type ValidationForm = 'spiffe' | 'plain'

export const unknownNode: EnvoyNode = { id: '', version: undefined, disableSpiffeCertValidation: undefined }

/** The SPIFFE validator came with Envoy 1.18; metadata wins over configuration (spire-surface §4.2). */
export function validationFormFor (node: EnvoyNode, disabledByConfig: boolean): ValidationForm {
  if (node.disableSpiffeCertValidation ?? disabledByConfig) return 'plain'
  if (node.version === undefined) return 'spiffe'
  const { major, minor } = node.version
  return major > 1 || (major === 1 && minor > 17) ? 'spiffe' : 'plain'
}

/** Reads a switch that people write as a boolean or as a text; anything else is as if it were not there. */
export function parseSwitch (value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string') return undefined
  if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true
  return /^(0|f|F|FALSE|false|False)$/.test(value) ? false : undefined
}
