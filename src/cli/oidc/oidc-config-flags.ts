import { parseOidcConfig, type OidcConfig } from '../../oidc/oidc-config.ts'
import { readConfigSource } from '../config-flags.ts'
import { pathFlag, switchFlag, textFlag, textListFlag, type FlagValues } from '../flag.ts'
import { orHcl } from '../hcl-config.ts'
import type { Terminal } from '../terminal.ts'

/** SPIRE's name for it. */
const defaultFile = 'oidc-discovery-provider.conf'

/** Flags of `oidc serve` and `oidc validate`; each wins over its key in the file. */
export const oidcConfigFlags = {
  config: pathFlag('configuration file: HCL (.conf, .hcl), YAML or JSON', { defaultText: `${defaultFile}, if it is there` }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  domain: textListFlag('name under which consumers ask, as name or name:port', 'NAME'),
  certFile: pathFlag('certificate chain (PEM) to serve https with; read again when it changes'),
  keyFile: pathFlag('its private key (PEM)'),
  addr: textFlag('where to serve https', { placeholder: 'HOST:PORT', defaultText: ':443' }),
  insecureAddr: textFlag('where to serve http instead, without TLS: behind a proxy, or for tests', { placeholder: 'HOST:PORT' }),
  listenSocketPath: pathFlag('Unix socket to serve http on instead, for a proxy', { placeholder: 'PATH' }),
  serverAddress: textFlag('read keys from a server, at its admin socket', { placeholder: 'unix:///PATH' }),
  workloadSocketPath: pathFlag('read keys from an agent instead, at its socket; needs -trustDomain', { placeholder: 'PATH' }),
  trustDomain: textFlag('whose keys, of those that the agent gives', { placeholder: 'NAME' }),
  jwtIssuer: textFlag('issuer to tell, where it is not https:// and the host asked for', { placeholder: 'URL' }),
  logLevel: textFlag('DEBUG, INFO, WARN or ERROR', { placeholder: 'LEVEL' }),
  logFormat: textFlag('json or text', { placeholder: 'FORMAT', defaultText: 'json' })
}

/** @throws {SpiffeError} `file_unusable`, `config_invalid` */
export async function readOidcConfig (flags: FlagValues<typeof oidcConfigFlags>, terminal: Terminal): Promise<OidcConfig> {
  const given = { ...flags, domain: flags.domain.length === 0 ? undefined : flags.domain }
  const source = await readConfigSource(given, terminal, defaultFile, {
    domain: ['domains'],
    certFile: ['serving_cert_file', 'cert_file_path'],
    keyFile: ['serving_cert_file', 'key_file_path'],
    addr: ['serving_cert_file', 'addr'],
    insecureAddr: ['insecure_addr'],
    listenSocketPath: ['listen_socket_path'],
    serverAddress: ['server_api', 'address'],
    workloadSocketPath: ['workload_api', 'socket_path'],
    trustDomain: ['workload_api', 'trust_domain'],
    jwtIssuer: ['jwt_issuer'],
    logLevel: ['log_level'],
    logFormat: ['log_format']
  })
  return parseOidcConfig(orHcl(source))
}
