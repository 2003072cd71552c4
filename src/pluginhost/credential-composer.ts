import type { CredentialComposer, JwtSvidClaimSet, X509CaAttributes, X509SvidAttributes } from '../plugins/credential-composer.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import type { CallOptions, ClientOf } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import {
  credentialComposerPluginService as service, type DistinguishedName, type JWTSVIDAttributes, type X509CAAttributes as CaMessage,
  type X509Extension as ExtensionMessage, type X509SVIDAttributes as SvidMessage
} from '../wire/generated/plugin-credential-composer.ts'
import { jsonToStruct, structToJson } from '../wire/struct-json.ts'
import type { DistinguishedName as Name } from '../x509/distinguished-name.ts'
import type { X509Extension } from '../x509/extra-extensions.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/**
 * SPIRE's plugin type `CredentialComposer`. A method that the program does not have, or that answers nothing, leaves things as they are.
 * Calls throw `plugin_unavailable` and `plugin_failed`.
 */
export async function startExternalComposer (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<CredentialComposer> {
  const plugin = await ExternalPlugin.start({ type: 'CredentialComposer', name, program, service: service.name }, host, signal)
  type Client = ClientOf<typeof service.methods>

  async function composed<T, M> (
    before: T, ask: (client: Client, options: CallOptions) => Promise<{ readonly attributes: M | undefined }>, read: (message: M) => T
  ): Promise<T> {
    try {
      const { attributes } = await plugin.call((channel, options) => ask(channel.client(service), options))
      return attributes === undefined ? before : read(attributes)
    } catch (error) {
      const { cause } = error as Error
      if (cause instanceof RpcError && cause.status === 'UNIMPLEMENTED') return before
      throw error
    }
  }

  function ca ({ subject, policyIdentifiers, extraExtensions }: CaMessage): X509CaAttributes {
    return { subject: nameOf(subject), policies: policyIdentifiers, extensions: extensionsOf(extraExtensions) }
  }

  function svid ({ subject, dnsSans, extraExtensions }: SvidMessage): X509SvidAttributes {
    return { subject: nameOf(subject), dnsNames: dnsSans, extensions: extensionsOf(extraExtensions) }
  }

  function nameOf (subject: DistinguishedName | undefined): Name {
    if (subject === undefined) throw new SpiffeError('plugin_failed', `the plugin ${name} answers without a subject`)
    const { extraNames, ...rest } = subject
    return { ...rest, extraNames: extraNames.map(({ oid, stringValue }) => ({ oid, value: stringValue })) }
  }

  return {
    name,
    composeServerX509Ca: now => composed(now, (client, options) => client.composeServerX509CA({
      attributes: { subject: toName(now.subject), policyIdentifiers: now.policies, extraExtensions: now.extensions }
    }, options), ca),
    composeServerX509Svid: now => composed(now, (client, options) =>
      client.composeServerX509SVID({ attributes: toSvid(now) }, options), svid),
    composeAgentX509Svid: (now, { id, publicKey }) => composed(now, (client, options) =>
      client.composeAgentX509SVID({ attributes: toSvid(now), spiffeId: id, publicKey }, options), svid),
    composeWorkloadX509Svid: (now, { id, publicKey }) => composed(now, (client, options) =>
      client.composeWorkloadX509SVID({ attributes: toSvid(now), spiffeId: id, publicKey }, options), svid),
    composeWorkloadJwtSvid: (now, id) => composed(now, (client, options) =>
      client.composeWorkloadJWTSVID({ attributes: { claims: jsonToStruct(now) }, spiffeId: id }, options), claimsOf),
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}

function claimsOf ({ claims }: JWTSVIDAttributes): JwtSvidClaimSet { return structToJson(claims) }

function toSvid ({ subject, dnsNames, extensions }: X509SvidAttributes) {
  return { subject: toName(subject), dnsSans: dnsNames, extraExtensions: extensions }
}

function toName ({ extraNames, ...rest }: Name) {
  return { ...rest, extraNames: extraNames.map(({ oid, value }) => ({ oid, stringValue: value })) }
}

function extensionsOf (messages: readonly ExtensionMessage[]): X509Extension[] {
  return messages.map(({ oid, value, critical }) => ({ oid, value, critical }))
}
