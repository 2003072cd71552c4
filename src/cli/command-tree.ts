import type { CommandGroup } from './command.ts'
import { agentDebug, agentLogger, serverDebug, serverLogger } from './running-process-commands.ts'

/** Every command. Each is loaded when it is called: importing the tree costs nothing but itself. */
export const commandTree: CommandGroup = {
  summary: 'Assay gives every workload a SPIFFE identity: server, node agent, Envoy SDS and the tools around them.',
  commands: {
    server: {
      summary: 'Run and check a server',
      commands: {
        run: {
          summary: 'Run the server until SIGINT or SIGTERM',
          load: async () => (await import('./server/server-run.ts')).serverRun
        },
        healthcheck: {
          summary: 'Ask a running server whether it is healthy',
          load: async () => (await import('./server/server-healthcheck.ts')).serverHealthcheck
        },
        status: {
          summary: 'Show the replicas, who does the chores, and the authorities',
          load: async () => (await import('./server/server-status.ts')).serverStatus
        },
        validate: {
          summary: 'Check a server configuration without running it',
          load: async () => (await import('./server/server-validate.ts')).serverValidate
        },
        logger: serverLogger,
        debug: serverDebug
      }
    },
    agent: {
      summary: 'Run and check a node agent; see and remove attested agents',
      commands: {
        run: {
          summary: 'Run the node agent until SIGINT or SIGTERM',
          load: async () => (await import('./agent/agent-run.ts')).agentRun
        },
        healthcheck: {
          summary: 'Ask a running agent whether it is healthy',
          load: async () => (await import('./agent/agent-healthcheck.ts')).agentHealthcheck
        },
        validate: {
          summary: 'Check an agent configuration without running it',
          load: async () => (await import('./agent/agent-validate.ts')).agentValidate
        },
        logger: agentLogger,
        debug: agentDebug,
        list: {
          summary: 'List attested agents',
          load: async () => (await import('./agent/agent-list.ts')).agentList
        },
        show: {
          summary: 'Show one attested agent with its selectors',
          load: async () => (await import('./agent/agent-show.ts')).agentShow
        },
        count: {
          summary: 'Count attested agents',
          load: async () => (await import('./agent/agent-count.ts')).agentCount
        },
        ban: {
          summary: 'Refuse an agent for good, until it is evicted',
          load: async () => (await import('./agent/agent-ban.ts')).agentBan
        },
        evict: {
          summary: 'Forget an agent: it must attest again',
          load: async () => (await import('./agent/agent-evict.ts')).agentEvict
        },
        purge: {
          summary: 'Evict agents that expired long ago',
          load: async () => (await import('./agent/agent-purge.ts')).agentPurge
        }
      }
    },
    controller: {
      summary: 'Make entries for the pods of a Kubernetes cluster, as its resources say',
      commands: {
        run: {
          summary: 'Run the controller until SIGINT or SIGTERM',
          load: async () => (await import('./controller/controller-run.ts')).controllerRun
        },
        plan: {
          summary: 'Show what the controller would change on the server, and change nothing',
          load: async () => (await import('./controller/controller-plan.ts')).controllerPlan
        },
        lint: {
          summary: 'Find manifests that give identities to more pods than meant, or run servers and agents wrongly',
          load: async () => (await import('./controller/controller-lint.ts')).controllerLint
        }
      }
    },
    status: {
      summary: 'Show which agent serves which revision of entries and bundles',
      load: async () => (await import('./convergence/convergence-status.ts')).convergenceStatus
    },
    role: {
      summary: 'Who may administer: the roles of a server\'s configuration',
      commands: {
        list: {
          summary: 'List roles with who holds them and what they grant',
          load: async () => (await import('./role/role-list.ts')).roleList
        },
        check: {
          summary: 'Tell what an ID or a user may do, and why not',
          load: async () => (await import('./role/role-check.ts')).roleCheck
        }
      }
    },
    token: {
      summary: 'Make join tokens',
      commands: {
        generate: {
          summary: 'Make a one-use token that attests one node',
          load: async () => (await import('./token/token-generate.ts')).tokenGenerate
        }
      }
    },
    entry: {
      summary: 'Registration entries: which workload gets which SPIFFE ID',
      commands: {
        create: {
          summary: 'Create entries',
          load: async () => (await import('./entry/entry-create.ts')).entryCreate
        },
        show: {
          summary: 'Show entries',
          load: async () => (await import('./entry/entry-show.ts')).entryShow
        },
        update: {
          summary: 'Replace entries',
          load: async () => (await import('./entry/entry-update.ts')).entryUpdate
        },
        delete: {
          summary: 'Delete entries',
          load: async () => (await import('./entry/entry-delete.ts')).entryDelete
        },
        count: {
          summary: 'Count entries',
          load: async () => (await import('./entry/entry-count.ts')).entryCount
        }
      }
    },
    service: {
      summary: 'Services: what callers name, and who is behind it',
      commands: {
        create: {
          summary: 'Create services',
          load: async () => (await import('./service/service-create.ts')).serviceCreate
        },
        list: {
          summary: 'List services',
          load: async () => (await import('./service/service-list.ts')).serviceList
        },
        show: {
          summary: 'Show one service with its endpoints and the agents that can call it',
          load: async () => (await import('./service/service-show.ts')).serviceShow
        },
        update: {
          summary: 'Replace services',
          load: async () => (await import('./service/service-update.ts')).serviceUpdate
        },
        delete: {
          summary: 'Delete services',
          load: async () => (await import('./service/service-delete.ts')).serviceDelete
        }
      }
    },
    policy: {
      summary: 'Policies: who may do what, in versions that reach every agent as a whole',
      commands: {
        test: {
          summary: 'Run the tests that stand beside policies',
          load: async () => (await import('./policy/policy-test.ts')).policyTest
        },
        lint: {
          summary: 'Find rules that never decide, or let in more than they seem to',
          load: async () => (await import('./policy/policy-lint.ts')).policyLint
        },
        diff: {
          summary: 'Compare policy sets: documents, and by recorded requests whose answers change',
          load: async () => (await import('./policy/policy-diff.ts')).policyDiff
        },
        apply: {
          summary: 'Make documents the active policies',
          load: async () => (await import('./policy/policy-apply.ts')).policyApply
        },
        show: {
          summary: 'Show the active policies, or an older version',
          load: async () => (await import('./policy/policy-show.ts')).policyShow
        },
        history: {
          summary: 'List the versions of the policies',
          load: async () => (await import('./policy/policy-history.ts')).policyHistory
        },
        rollback: {
          summary: 'Go back to an older version of the policies',
          load: async () => (await import('./policy/policy-rollback.ts')).policyRollback
        }
      }
    },
    bundle: {
      summary: 'Bundles: the public keys of this and of federated trust domains',
      commands: {
        show: {
          summary: 'Print this trust domain\'s bundle',
          load: async () => (await import('./bundle/bundle-show.ts')).bundleShow
        },
        list: {
          summary: 'Print federated bundles',
          load: async () => (await import('./bundle/bundle-list.ts')).bundleList
        },
        count: {
          summary: 'Count bundles, this trust domain\'s own among them',
          load: async () => (await import('./bundle/bundle-count.ts')).bundleCount
        },
        set: {
          summary: 'Store a federated bundle',
          load: async () => (await import('./bundle/bundle-set.ts')).bundleSet
        },
        delete: {
          summary: 'Delete a federated bundle',
          load: async () => (await import('./bundle/bundle-delete.ts')).bundleDelete
        },
        sign: {
          summary: 'Sign the bundle, for places that others may write to',
          load: async () => (await import('./bundle/bundle-sign.ts')).bundleSign
        }
      }
    },
    federation: {
      summary: 'Federation relationships: whose bundles the server is to have, and where they are fetched',
      commands: {
        create: {
          summary: 'Create relationships',
          load: async () => (await import('./federation/federation-create.ts')).federationCreate
        },
        list: {
          summary: 'List relationships',
          load: async () => (await import('./federation/federation-list.ts')).federationList
        },
        show: {
          summary: 'Show the relationship with one trust domain',
          load: async () => (await import('./federation/federation-show.ts')).federationShow
        },
        update: {
          summary: 'Change relationships',
          load: async () => (await import('./federation/federation-update.ts')).federationUpdate
        },
        delete: {
          summary: 'End the relationship with a trust domain',
          load: async () => (await import('./federation/federation-delete.ts')).federationDelete
        },
        refresh: {
          summary: 'Have the server fetch a partner\'s bundle now',
          load: async () => (await import('./federation/federation-refresh.ts')).federationRefresh
        },
        status: {
          summary: 'Show how each partner\'s bundle fares, and when trust breaks',
          load: async () => (await import('./federation/federation-status.ts')).federationStatus
        },
        invite: {
          summary: 'Print a signed invitation with which another trust domain can federate with this one',
          load: async () => (await import('./federation/federation-invite.ts')).federationInvite
        },
        accept: {
          summary: 'Check another trust domain\'s invitation, show what it means, and federate with it',
          load: async () => (await import('./federation/federation-accept.ts')).federationAccept
        }
      }
    },
    localauthority: {
      summary: 'The authorities that sign: how they follow each other, and what to do when one is stolen',
      commands: {
        x509: {
          summary: 'X.509 authorities',
          commands: {
            show: {
              summary: 'Show the active, the prepared and the old X.509 authority',
              load: async () => (await import('./authority/local-authority-show.ts')).localAuthorityShow('x509')
            },
            prepare: {
              summary: 'Make and publish the next X.509 authority',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityPrepare('x509')
            },
            activate: {
              summary: 'Let the prepared X.509 authority sign',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityActivate('x509')
            },
            taint: {
              summary: 'Have what the old X.509 authority signed replaced',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityTaint('x509')
            },
            revoke: {
              summary: 'Take the tainted X.509 authority out of the bundle',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityRevoke('x509')
            }
          }
        },
        jwt: {
          summary: 'JWT authorities',
          commands: {
            show: {
              summary: 'Show the active, the prepared and the old JWT authority',
              load: async () => (await import('./authority/local-authority-show.ts')).localAuthorityShow('jwt')
            },
            prepare: {
              summary: 'Make and publish the next JWT authority',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityPrepare('jwt')
            },
            activate: {
              summary: 'Let the prepared JWT authority sign',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityActivate('jwt')
            },
            taint: {
              summary: 'Have what the old JWT authority signed replaced',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityTaint('jwt')
            },
            revoke: {
              summary: 'Take the tainted JWT authority out of the bundle',
              load: async () => (await import('./authority/local-authority-change.ts')).localAuthorityRevoke('jwt')
            }
          }
        }
      }
    },
    rotate: {
      summary: 'Replace a stolen authority and all that it signed, or rehearse it',
      load: async () => (await import('./rotate/rotate-authorities.ts')).rotateAuthorities
    },
    revoke: {
      summary: 'Take trust from one SVID, one SPIFFE ID or one node before its certificates expire',
      commands: {
        svid: {
          summary: 'Revoke one X509-SVID',
          load: async () => (await import('./revoke/revoke-svid.ts')).revokeSvid
        },
        id: {
          summary: 'Revoke a SPIFFE ID with all its certificates',
          load: async () => (await import('./revoke/revoke-id.ts')).revokeId
        },
        node: {
          summary: 'Ban an agent and revoke all that was issued to its node',
          load: async () => (await import('./revoke/revoke-node.ts')).revokeNode
        },
        list: {
          summary: 'List what is revoked',
          load: async () => (await import('./revoke/revoke-list.ts')).revokeList
        },
        lift: {
          summary: 'End a revocation before its time',
          load: async () => (await import('./revoke/revoke-lift.ts')).revokeLift
        }
      }
    },
    upstreamauthority: {
      summary: 'The authority above a server\'s own',
      commands: {
        taint: {
          summary: 'Have what is below an upstream authority replaced',
          load: async () => (await import('./authority/upstream-authority.ts')).upstreamAuthorityVerb('taint')
        },
        revoke: {
          summary: 'Take a tainted upstream authority out of the bundle',
          load: async () => (await import('./authority/upstream-authority.ts')).upstreamAuthorityVerb('revoke')
        }
      }
    },
    x509: {
      summary: 'X509-SVIDs from the server, without an agent',
      commands: {
        mint: {
          summary: 'Make a key and an X509-SVID for it',
          load: async () => (await import('./mint/x509-mint.ts')).x509Mint
        }
      }
    },
    jwt: {
      summary: 'JWT-SVIDs from the server, without an agent',
      commands: {
        mint: {
          summary: 'Make a JWT-SVID',
          load: async () => (await import('./mint/jwt-mint.ts')).jwtMint
        }
      }
    },
    authz: {
      summary: 'The authorization layer by itself, for any Envoy or service',
      commands: {
        serve: {
          summary: 'Decide by policies in files until SIGINT or SIGTERM',
          load: async () => (await import('./authz/authz-serve.ts')).authzServe
        }
      }
    },
    oidc: {
      summary: 'OpenID Connect discovery for JWT-SVIDs',
      commands: {
        serve: {
          summary: 'Serve the discovery document and the keys until SIGINT or SIGTERM',
          load: async () => (await import('./oidc/oidc-serve.ts')).oidcServe
        },
        validate: {
          summary: 'Check a provider\'s configuration without running it',
          load: async () => (await import('./oidc/oidc-validate.ts')).oidcValidate
        }
      }
    },
    csi: {
      summary: 'The Workload API\'s socket in pods of Kubernetes',
      commands: {
        run: {
          summary: 'Mount the socket\'s folder into pods, as CSI has it, until SIGINT or SIGTERM',
          load: async () => (await import('./csi/csi-run.ts')).csiRun
        }
      }
    },
    files: {
      summary: 'Files for programs that know only files: SVIDs, keys, bundles, and reloads',
      commands: {
        run: {
          summary: 'Keep files up to date, and the program that reads them, until SIGINT or SIGTERM',
          load: async () => (await import('./files/files-run.ts')).filesRun
        },
        fetch: {
          summary: 'Write the files once',
          load: async () => (await import('./files/files-fetch.ts')).filesFetch
        },
        validate: {
          summary: 'Check a configuration without writing anything',
          load: async () => (await import('./files/files-validate.ts')).filesValidate
        }
      }
    },
    mesh: {
      summary: 'The node\'s proxy and the workloads it serves',
      commands: {
        status: {
          summary: 'Show the workloads of this node and what its proxy does for them',
          load: async () => (await import('./mesh/mesh-status.ts')).meshStatus
        },
        add: {
          summary: 'Tell the agent of a workload in a network namespace of its own',
          load: async () => (await import('./mesh/mesh-workloads.ts')).meshAdd
        },
        remove: {
          summary: 'Tell the agent that a workload is gone',
          load: async () => (await import('./mesh/mesh-workloads.ts')).meshRemove
        },
        'keep-plugin': {
          summary: 'Put the container runtime\'s plugin in place on this node, and keep it there until SIGINT or SIGTERM',
          load: async () => (await import('./mesh/mesh-plugin.ts')).meshKeepPlugin
        },
        'remove-plugin': {
          summary: 'Take the container runtime\'s plugin out of this node',
          load: async () => (await import('./mesh/mesh-plugin.ts')).meshRemovePlugin
        }
      }
    },
    envoy: {
      summary: 'Configuration for the node\'s Envoy',
      commands: {
        bootstrap: {
          summary: 'Print what an Envoy is started with that takes everything else from the agent',
          load: async () => (await import('./envoy/envoy-bootstrap.ts')).envoyBootstrapCommand
        }
      }
    },
    cni: {
      summary: 'Tell the agent of containers, as a plugin of their runtime (CNI)',
      load: async () => (await import('./mesh/cni.ts')).cni
    },
    api: {
      summary: 'Call the Workload API as a workload does',
      commands: {
        fetch: {
          summary: 'Fetch this process\'s own SVIDs',
          byDefault: 'x509',
          commands: {
            x509: {
              summary: 'Fetch X509-SVIDs and bundles',
              load: async () => (await import('./api/fetch-x509.ts')).fetchX509
            },
            jwt: {
              summary: 'Fetch JWT-SVIDs and JWT bundles',
              load: async () => (await import('./api/fetch-jwt.ts')).fetchJwt
            }
          }
        },
        watch: {
          summary: 'Print X509-SVIDs and each update until Ctrl-C',
          load: async () => (await import('./api/api-watch.ts')).apiWatch
        },
        validate: {
          summary: 'Have the agent check a token',
          commands: {
            jwt: {
              summary: 'Check a JWT-SVID for an audience',
              load: async () => (await import('./api/validate-jwt.ts')).validateJwt
            }
          }
        }
      }
    },
    svid: {
      summary: 'Look at and verify SVIDs in files; needs no server',
      commands: {
        inspect: {
          summary: 'Tell what an SVID says, without judging it',
          load: async () => (await import('./svid/svid-inspect.ts')).svidInspect
        },
        verify: {
          summary: 'Judge an SVID by a bundle',
          load: async () => (await import('./svid/svid-verify.ts')).svidVerify
        }
      }
    },
    redirect: {
      summary: 'Make what workloads connect to arrive at the node\'s proxy, without their help',
      commands: {
        plan: {
          summary: 'Print the rules that apply would write',
          load: async () => (await import('./redirect/redirect-plan.ts')).redirectPlan
        },
        apply: {
          summary: 'Redirect a namespace, a user or a control group',
          load: async () => (await import('./redirect/redirect-apply.ts')).redirectApply
        },
        list: {
          summary: 'Show what is redirected, and how much came that way',
          load: async () => (await import('./redirect/redirect-list.ts')).redirectList
        },
        remove: {
          summary: 'Take the rules away again',
          load: async () => (await import('./redirect/redirect-remove.ts')).redirectRemove
        }
      }
    },
    'can-i': {
      summary: 'Decide one request by policies, and tell why',
      load: async () => (await import('./policy/can-i.ts')).canI
    },
    'why-denied': {
      summary: 'Find out why a request was denied',
      load: async () => (await import('./policy/why-denied.ts')).whyDenied
    },
    datastore: {
      summary: 'Back up, restore and move the server\'s database',
      commands: {
        backup: {
          summary: 'Write one state of the database to a file',
          load: async () => (await import('./datastore/datastore-backup.ts')).datastoreBackup
        },
        restore: {
          summary: 'Put a backup in place of what the database holds',
          load: async () => (await import('./datastore/datastore-restore.ts')).datastoreRestore
        },
        inspect: {
          summary: 'Tell what a backup holds, and whether it is intact',
          load: async () => (await import('./datastore/datastore-inspect.ts')).datastoreInspect
        },
        migrate: {
          summary: 'Move into an empty database, SQLite or PostgreSQL',
          load: async () => (await import('./datastore/datastore-migrate.ts')).datastoreMigrate
        },
        'new-epoch': {
          summary: 'Begin the log anew after other tools have set the database back',
          load: async () => (await import('./datastore/datastore-new-epoch.ts')).datastoreNewEpoch
        }
      }
    },
    takeover: {
      summary: 'Move a live trust domain from SPIRE\'s server to this one, and back',
      commands: {
        plan: {
          summary: 'Show what would be copied, who could move, and what is in the way; change nothing',
          load: async () => (await import('./takeover/takeover-plan.ts')).takeoverPlan
        },
        start: {
          summary: 'Publish the authorities of each side in the other\'s bundle, and copy partners',
          load: async () => (await import('./takeover/takeover-start.ts')).takeoverStart
        },
        run: {
          summary: 'Keep both sides equal while agents move, until SIGINT or SIGTERM',
          load: async () => (await import('./takeover/takeover-run.ts')).takeoverRun
        },
        status: {
          summary: 'Show what is left and what would break',
          load: async () => (await import('./takeover/takeover-status.ts')).takeoverStatus
        },
        token: {
          summary: 'Make an agent\'s join token anew, so that it keeps its SPIFFE ID',
          load: async () => (await import('./takeover/takeover-token.ts')).takeoverToken
        },
        finish: {
          summary: 'End the takeover once no agent is left at SPIRE',
          load: async () => (await import('./takeover/takeover-finish.ts')).takeoverFinish
        },
        rollback: {
          summary: 'Give the trust domain back to SPIRE',
          load: async () => (await import('./takeover/takeover-rollback.ts')).takeoverRollback
        }
      }
    },
    drill: {
      summary: 'Rehearse, on purpose, what else happens at night',
      commands: {
        failover: {
          summary: 'Have each replica stand aside in turn, and measure how the others take over',
          load: async () => (await import('./drill/drill-failover.ts')).drillFailover
        }
      }
    },
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
