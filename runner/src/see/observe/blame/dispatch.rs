//! Where a generic entry calls into a subsystem, and where an interrupt comes in.

use super::Area;

/// Functions that hand over to a subsystem by a pointer or an id: what they called last identifies
/// what was asked for.
#[rustfmt::skip]
pub const DISPATCHERS: &[Area] = &[
    Area {
        name: "system calls",
        functions: &[
            "do_syscall_*", "__do_syscall_*", "do_syscall_x64*", "x64_sys_call*", "ia32_sys_call*",
            "entry_SYSCALL_*", "entry_SYSENTER_*", "do_fast_syscall_32", "__do_fast_syscall_32*",
            "do_syscall_32_irqs_on*", "do_int80_*", "ret_fast_syscall*", "el0_svc*",
            "invoke_syscall*", "__invoke_syscall*", "do_el0_svc*", "system_call_*", "sysenter_*",
            "tracesys*", "syscall_*",
        ],
        except: &[],
        reason: "the table of system calls: above it stands the entry of the one that was called",
    },
    Area {
        name: "files",
        functions: &[
            "vfs_ioctl*", "do_vfs_ioctl*", "__do_sys_ioctl*", "__se_sys_ioctl*", "ksys_ioctl*",
            "SYSC_ioctl*", "SyS_ioctl*", "__x64_sys_ioctl*", "compat_SyS_ioctl*", "compat_ioctl*",
            "*_compat_ioctl", "__do_compat_sys_ioctl*", "__se_compat_sys_ioctl*", "vfs_read*",
            "__vfs_read*", "vfs_write*", "__vfs_write*", "new_sync_read*", "new_sync_write*",
            "call_read_iter*", "call_write_iter*", "do_iter_read*", "do_iter_write*",
            "do_iter_readv*", "do_loop_readv*", "vfs_iter_*", "do_sync_read*", "do_sync_write*",
            "__fput*", "vfs_fsync*", "vfs_open*", "do_dentry_open*", "vfs_poll*", "do_pollfd*",
            "vfs_splice*", "do_splice*", "vfs_get_tree*", "mount_fs*", "call_mmap*", "mmap_region*",
        ],
        except: &[],
        reason: "the file's operations: above them stands the driver's or file system's own",
    },
    Area {
        name: "sockets",
        functions: &[
            "sock_sendmsg*", "__sock_sendmsg*", "____sys_sendmsg*", "___sys_sendmsg*",
            "__sys_sendto*", "__sys_connect*", "__sys_bind*", "__sys_accept*", "__sys_setsockopt*",
            "__sys_getsockopt*", "do_sock_setsockopt*", "do_sock_getsockopt*", "sock_write_iter*",
            "sock_read_iter*", "sock_do_ioctl*", "sock_ioctl*", "__sock_release*", "sock_release*",
            "sock_common_*", "SYSC_connect*", "SYSC_bind*", "SYSC_sendto*", "SYSC_setsockopt*",
            "SYSC_getsockopt*", "SYSC_accept*", "sock_poll*", "sock_recvmsg*", "__sys_listen*",
            "__sys_shutdown*", "__sys_socketpair*", "sock_splice_*", "sock_mmap*",
            "compat_sock_ioctl*", "sk_common_release*", "kernel_accept*", "kernel_bind*",
            "kernel_connect*", "kernel_listen*", "kernel_sendmsg*", "kernel_recvmsg*",
            "kernel_setsockopt*", "kernel_sock_shutdown*",
        ],
        except: &[],
        reason: "the protocol's operations",
    },
    Area {
        name: "netlink",
        functions: &["rtnetlink_rcv_msg*", "nfnetlink_rcv*"],
        except: &[],
        reason: "netlink's tables of message types",
    },
    Area {
        name: "memory mappings",
        functions: &["do_mmap*", "mmap_file*", "vm_mmap_pgoff*", "unmap_region*", "remove_vma*"],
        except: &[],
        reason: "the mapped file's operations",
    },
    Area {
        name: "block devices",
        functions: &["blkdev_ioctl*", "blkdev_driver_ioctl*", "compat_blkdev_ioctl*"],
        except: &[],
        reason: "the disk driver's operations",
    },
    Area {
        name: "idle",
        functions: &["cpu_startup_entry*", "start_secondary*", "secondary_start_kernel*", "rest_init*"],
        except: &[],
        reason: "a CPU without work: what ran on it stands above",
    },
    Area {
        name: "received packets",
        functions: &[
            "deliver_skb*", "__netif_receive_skb*", "netif_receive_skb*", "process_backlog*",
            "napi_poll*", "__napi_poll*", "net_rx_action*",
        ],
        except: &[],
        reason: "the tables of protocols and of drivers' polls",
    },
    Area {
        name: "softirqs and timers",
        functions: &[
            "call_timer_fn*", "expire_timers*", "__run_timers*", "run_timer_softirq*",
            "__do_softirq*", "handle_softirqs*", "do_softirq*", "tasklet_action*",
            "tasklet_hi_action*", "__hrtimer_run_queues*", "__run_hrtimer*", "rcu_do_batch*",
            "rcu_core*", "irq_work_run_list*", "irq_work_single*", "__handle_irq_event*",
            "handle_irq_event*", "run_ksoftirqd*",
        ],
        except: &[],
        reason: "the callback stands above",
    },
    Area {
        name: "threads and deferred work",
        functions: &[
            "process_one_work*", "worker_thread*", "kthread", "ret_from_fork*",
            "kernel_thread_helper*", "task_work_run*", "get_signal*", "do_exit_work*",
            "smpboot_thread_fn*", "kthread_worker_fn*", "exit_to_usermode_loop*",
            "exit_to_user_mode_loop*", "exit_to_user_mode_prepare*", "do_notify_resume*",
            "do_one_initcall*", "really_probe*", "usb_probe_interface*", "call_usermodehelper*",
        ],
        except: &[],
        reason: "the work's or the thread's own function stands above",
    },
];

/// Dispatchers of a stack that has no other: a fault in user space enters the kernel by itself, one
/// in a system call belongs to the call.
#[rustfmt::skip]
pub(super) const FAULTS: &[Area] = &[
    Area {
        name: "page faults",
        functions: &[
            "__do_fault*", "handle_mm_fault*", "__handle_mm_fault*", "do_user_addr_fault*",
            "do_page_fault*", "__do_page_fault*", "exc_page_fault*", "asm_exc_page_fault*",
            "page_fault", "async_page_fault", "do_mem_abort*", "do_translation_fault*", "el0_da*",
            "el0_ia*",
        ],
        except: &[],
        reason: "a fault is resolved by the file system or driver that the memory is mapped from",
    },
];

/// Who prints a stack from within an interrupt.
#[rustfmt::skip]
pub(super) const WATCHDOG: &[&str] = &[
    "dump_stack*", "show_stack*", "*sched_show_task*", "nmi_cpu_backtrace*", "walk_stackframe*", "rcu_dump_cpu_stacks*",
    "rcu_check_callbacks*", "rcu_sched_clock_irq*", "*cpu_stall*", "watchdog_timer_fn*", "update_process_times*",
];

/// Where an interrupt or an NMI enters the kernel.
#[rustfmt::skip]
pub(super) const INTERRUPT_ENTRIES: &[&str] = &[
    "*apic_timer_interrupt*",
    "asm_sysvec_*",
    "reschedule_interrupt*",
    "call_function_interrupt*", "call_function_single_interrupt*",
    "asm_common_interrupt*",
    "common_interrupt*",
    "ret_from_intr*",
    "end_repeat_nmi*",
    "asm_exc_nmi*",
    "nmi",
    "repeat_nmi*",
    "el1_irq*",
    "el1h_64_irq*",
    "el1_interrupt*",
    "__irq_svc*",
    "gic_handle_irq*",
    "handle_arch_irq*",
    "ret_from_exception*",
    "do_IRQ*",
    "interrupt_return*",
];
