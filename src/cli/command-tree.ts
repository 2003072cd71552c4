import { agentCommands } from './agent/agent-commands.ts'
import { apiCommands } from './api/api-commands.ts'
import { localAuthorityCommands, upstreamAuthorityCommands } from './authority/authority-commands.ts'
import { authzCommands } from './authz/authz-commands.ts'
import { bundleCommands } from './bundle/bundle-commands.ts'
import type { CommandGroup } from './command.ts'
import { controllerCommands } from './controller/controller-commands.ts'
import { csiCommands } from './csi/csi-commands.ts'
import { datastoreCommands } from './datastore/datastore-commands.ts'
import { drillCommands } from './drill/drill-commands.ts'
import { entryCommands } from './entry/entry-commands.ts'
import { envoyCommands } from './envoy/envoy-commands.ts'
import { federationCommands } from './federation/federation-commands.ts'
import { filesCommands } from './files/files-commands.ts'
import { meshCommands } from './mesh/mesh-commands.ts'
import { jwtCommands, x509Commands } from './mint/mint-commands.ts'
import { oidcCommands } from './oidc/oidc-commands.ts'
import { policyCommands } from './policy/policy-commands.ts'
import { redirectCommands } from './redirect/redirect-commands.ts'
import { revokeCommands } from './revoke/revoke-commands.ts'
import { roleCommands } from './role/role-commands.ts'
import { serverCommands } from './server/server-commands.ts'
import { serviceCommands } from './service/service-commands.ts'
import { svidCommands } from './svid/svid-commands.ts'
import { takeoverCommands } from './takeover/takeover-commands.ts'
import { tokenCommands } from './token/token-commands.ts'

/** Every command, a file per group. Each command is loaded when it is called: importing the tree costs nothing but itself. */
export const commandTree: CommandGroup = {
  summary: 'Assay gives every workload a SPIFFE identity: server, node agent, Envoy SDS and the tools around them.',
  commands: {
    server: serverCommands,
    agent: agentCommands,
    controller: controllerCommands,
    status: {
      summary: 'Show which agent serves which revision of entries and bundles',
      load: async () => (await import('./convergence/convergence-status.ts')).convergenceStatus
    },
    role: roleCommands,
    token: tokenCommands,
    entry: entryCommands,
    service: serviceCommands,
    policy: policyCommands,
    bundle: bundleCommands,
    federation: federationCommands,
    localauthority: localAuthorityCommands,
    rotate: {
      summary: 'Replace a stolen authority and all that it signed, or rehearse it',
      load: async () => (await import('./rotate/rotate-authorities.ts')).rotateAuthorities
    },
    revoke: revokeCommands,
    upstreamauthority: upstreamAuthorityCommands,
    x509: x509Commands,
    jwt: jwtCommands,
    authz: authzCommands,
    oidc: oidcCommands,
    csi: csiCommands,
    files: filesCommands,
    mesh: meshCommands,
    envoy: envoyCommands,
    cni: {
      summary: 'Tell the agent of containers, as a plugin of their runtime (CNI)',
      load: async () => (await import('./mesh/cni.ts')).cni
    },
    api: apiCommands,
    svid: svidCommands,
    redirect: redirectCommands,
    'can-i': {
      summary: 'Decide one request by policies, and tell why',
      load: async () => (await import('./policy/can-i.ts')).canI
    },
    'why-denied': {
      summary: 'Find out why a request was denied',
      load: async () => (await import('./policy/why-denied.ts')).whyDenied
    },
    datastore: datastoreCommands,
    takeover: takeoverCommands,
    drill: drillCommands,
    errors: {
      summary: 'Explain error codes',
      load: async () => (await import('./explain-errors.ts')).explainErrors
    },
    completion: {
      summary: 'Print a completion script for a shell',
      load: async () => (await import('./completion.ts')).completion
    },
    demo: {
      summary: 'Show two workloads talking mTLS through stock Envoys',
      load: async () => (await import('./demo-command.ts')).demo
    }
  }
}
