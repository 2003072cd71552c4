import { flushCompileCache } from 'node:module'
import { systemClock } from '../../runtime/clock.ts'
import { createLogger } from '../../runtime/logger.ts'
import { parseCallerPattern, type CallerPattern } from '../../spiffe/caller-pattern.ts'
import { type EndpointAddress, parseEndpointAddress } from '../../spiffe/endpoint-address.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, type Flag, pathFlag, pathListFlag, switchFlag, textFlag, textListFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { regoOfFlags } from './rego-flags.ts'
import { tlsFilesOf, tlsOfFiles } from './tls-files.ts'

export const authzServe = defineCommand({
  flags: {
    policies: pathListFlag('file or folder of policies (.yaml, .yml, .json)', { placeholder: 'PATH' }),
    extAuthz: addressListFlag('where to serve Envoy\'s ext_authz over gRPC'),
    extAuthzHttp: addressListFlag('where to serve Envoy\'s ext_authz over HTTP; a Unix socket of Envoy\'s alone'),
    dataApi: addressListFlag('where to serve OPA\'s Data API over HTTP'),
    dataApiTls: addressListFlag('where to serve it over HTTPS by mutual TLS, with -svid, -svidKey and -bundle'),
    rego: pairListFlag('bundle of Rego, a file, a folder or a URL; rules ask it as provider rego/PATH', 'NAME=SOURCE'),
    regoKey: pairListFlag('key that bundles must be signed by: its ID, algorithm and file (PEM)', 'ID:ES256=FILE'),
    entrypoint: textListFlag('what is asked of a folder of Rego, such as envoy/authz/allow', 'PATH'),
    opa: pathFlag('the program opa, which builds folders of Rego'),
    decisionLog: pathFlag('file that each decision is appended to, as a JSON line'),
    decisionLogUpload: textFlag('receiver of OPA\'s decision logs, without /logs', { placeholder: 'URL' }),
    decisionLogOtlp: textFlag('OpenTelemetry collector, as http://HOST:4318/v1/logs', { placeholder: 'URL' }),
    tracesOtlp: textFlag('OpenTelemetry collector of spans, as http://HOST:4318/v1/traces', { placeholder: 'URL' }),
    mask: textListFlag('part of the input that logs must not have, such as /input/http/headers/x-user', 'POINTER'),
    candidate: pathListFlag('file or folder of policies that are not obeyed: what they would change is at /v1/flips of -dataApi', {
      placeholder: 'PATH'
    }),
    rbacOut: pathFlag('folder for filters: each workload\'s rules as Envoy\'s own RBAC, written anew with each change'),
    rbacFor: idListFlag('workload to write filters for, besides those that rules name by their whole ID'),
    dryRun: switchFlag('let everybody in, and record what would have been decided'),
    svid: pathFlag('certificate chain (PEM) of an X509-SVID: TCP addresses of -extAuthz are then served by mutual TLS'),
    svidKey: pathFlag('its private key (PEM)'),
    bundle: pathFlag('what callers\' certificates are checked against: a SPIFFE bundle (JSON) or CA certificates (PEM)'),
    callers: callerListFlag('who may ask over TLS: a SPIFFE ID, or spiffe://td/path/*; without it the whole trust domain'),
    logLevel: choiceFlag('least level that is logged', ['debug', 'info', 'warn', 'error'], 'info'),
    logFormat: choiceFlag('form of the log', ['text', 'json'], 'text')
  },
  details: 'Addresses are unix:///path or tcp://ADDRESS:PORT; without TLS (-svid, -svidKey, -bundle) only this machine is served over TCP.\n' +
    'Policies are read again when their files change, all of them or none: broken ones are logged, and the last good ones go on.\n' +
    'See docs/policies.md and docs/ext-authz.md.',
  examples: [
    'assay authz serve -policies /etc/assay/policies -extAuthz unix:///run/assay/ext-authz.sock',
    'assay authz serve -policies policies.yaml -extAuthz tcp://127.0.0.1:9191 -dataApi tcp://127.0.0.1:8181',
    'assay authz serve -policies policies.yaml -rbacOut /etc/envoy/rbac -rbacFor spiffe://example.org/orders',
    'assay authz serve -policies policies.yaml -extAuthz tcp://0.0.0.0:9191 -svid svid.pem -svidKey key.pem -bundle bundle.pem'
  ],
  async run ({ flags, terminal }) {
    const { policies, extAuthz, extAuthzHttp, dataApi, dataApiTls, dryRun, candidate, rbacOut, rbacFor } = flags
    if (policies.length === 0) throw usage('-policies is missing: there is nothing to decide by')
    if (extAuthz.length + extAuthzHttp.length + dataApi.length + dataApiTls.length === 0 && rbacOut === undefined) {
      const listeners = '-extAuthz, -extAuthzHttp, -dataApi, -dataApiTls and -rbacOut'
      throw usage(`give at least one of ${listeners}: nobody could ask`)
    }
    if (rbacFor.length > 0 && rbacOut === undefined) throw usage('-rbacFor needs -rbacOut')
    if (candidate.length > 0 && dataApi.length + dataApiTls.length === 0) {
      throw usage('-candidate needs -dataApi or -dataApiTls: nobody could look')
    }
    const { callers } = flags
    const files = tlsFilesOf(flags)
    const lacking = dataApiTls.length > 0 ? '-dataApiTls' : callers.length > 0 ? '-callers' : undefined
    if (files === undefined && lacking !== undefined) throw usage(`${lacking} needs -svid, -svidKey and -bundle`)
    if (dataApiTls.some(({ kind }) => kind === 'unix')) throw usage('-dataApiTls is for TCP: a socket is for -dataApi')
    const tls = files === undefined ? undefined : tlsOfFiles(files, callers)
    const rego = regoOfFlags(flags)
    const { decisionLog: file, decisionLogUpload: uploadUrl, decisionLogOtlp: otlpUrl, tracesOtlp: spansUrl, mask } = flags
    const recording = { file, uploadUrl, otlpUrl, spansUrl, mask: mask.map(path => ({ op: 'remove' as const, path })) }
    const log = createLogger({ level: flags.logLevel, format: flags.logFormat })
    const { serveAuthz } = await import('../../authz/standalone/serve-authz.ts')
    const rbac = rbacOut === undefined ? undefined : { folder: rbacOut, workloads: rbacFor }
    const config = { policies, extAuthz, extAuthzHttp, dataApi, dataApiTls, dryRun, candidate, rbac, tls, rego, recording }
    // Node keeps compiled code when it ends, and this may end by being killed: it would start cold, and larger by a compiler, each time.
    const onReady = () => flushCompileCache()
    await serveAuthz(config, { log, clock: systemClock, onReady }, terminal.signal)
    return 0
  }
})

function addressListFlag (help: string): Flag<readonly EndpointAddress[]> {
  return { help, placeholder: 'ADDRESS', initial: [], repeats: true, accept: (text, before) => [...before, parseEndpointAddress(text)] }
}

function idListFlag (help: string): Flag<readonly SpiffeId[]> {
  return { help, placeholder: 'SPIFFE-ID', initial: [], repeats: true, accept: (text, before) => [...before, parseSpiffeId(text)] }
}

function callerListFlag (help: string): Flag<readonly CallerPattern[]> {
  return { help, placeholder: 'SPIFFE-ID', initial: [], repeats: true, accept: (text, before) => [...before, parseCallerPattern(text)] }
}

/** `NAME=VALUE`, each name once. */
function pairListFlag (help: string, placeholder: string): Flag<Readonly<Record<string, string>>> {
  return {
    help, placeholder, initial: {}, repeats: true,
    accept (text, before) {
      const at = text.indexOf('=')
      const [name, value] = [text.slice(0, at), text.slice(at + 1)]
      if (at < 1 || value === '') throw new Error(`must be ${placeholder}`)
      if (Object.hasOwn(before, name)) throw new Error(`names ${name} twice`)
      return { ...before, [name]: value }
    }
  }
}
