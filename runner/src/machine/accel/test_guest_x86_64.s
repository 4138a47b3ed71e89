# SPDX-License-Identifier: MIT OR Apache-2.0
# What a kernel does first, in a few instructions: out of real mode, through
# protected mode into long mode with paging, exceptions and timer interrupts
# taken, and a loop that takes no time on a CPU and seconds where each
# instruction is emulated. Ends by a write to the debug-exit port.
#
# Assembled into the runner (`global_asm!`, AT&T syntax) and copied to offset
# 0xf000 of a 64 KiB ROM, which the machine `pc` shows at 0xf0000 too.
#
# Intel SDM volume 3, chapters 10.8.5 (IA-32e mode) and 6.14 (interrupts in it), 11 (local APIC).

        .set    BASE, 0xff000           # where this code is, as a linear address
        .set    TABLES, 0x1000          # page tables: three pages from here
        .set    IDT, 0x4000
        .set    STACK, 0x8000
        .set    ROUNDS, 0x4000000       # 64 Mi: 20 ms of a CPU, minutes of an emulator of single instructions
        .set    TICKS, 3
        .set    APIC, 0x200000          # where its page is mapped

        .pushsection .rodata.bakeoff_test_guest, "a", @progbits
        .globl  bakeoff_test_guest_begin
        .globl  bakeoff_test_guest_end
bakeoff_test_guest_begin:
        .code16
        cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        # Page tables: one page of 2 MiB mapped to itself, then the APIC's.
        movw    $TABLES, %di
        movw    $0x3000, %cx
        rep stosb
        movl    $(TABLES + 0x1003), TABLES
        movl    $(TABLES + 0x2003), TABLES + 0x1000
        movl    $0x83, TABLES + 0x2000
        movl    $0xfee00093, TABLES + 0x2008
        lgdtl   %cs:(gdtr - bakeoff_test_guest_begin + 0xf000)
        movl    $0x20, %eax             # CR4.PAE
        movl    %eax, %cr4
        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       # EFER.LME
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    $0x80000001, %eax       # CR0.PG and PE
        movl    %eax, %cr0
        ljmpl   $8, $(long - bakeoff_test_guest_begin + BASE)

        .code64
long:
        xorl    %eax, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $STACK, %esp
        # Vectors 6 (invalid opcode) and 32 (timer), as interrupt gates.
        movl    $IDT, %edi
        movl    $0x400, %ecx
        rep stosb
        leaq    invalid(%rip), %rax
        movl    $(IDT + 16 * 6), %edi
        call    gate
        leaq    timer(%rip), %rax
        movl    $(IDT + 16 * 32), %edi
        call    gate
        lidt    idtr(%rip)
        # An exception, and back.
        xorl    %ebx, %ebx
        ud2
        cmpl    $1, %ebx
        jne     wrong
        # A loop over memory.
        movl    $ROUNDS, %ecx
        movl    $0, 0x500
again:
        incl    0x500
        decl    %ecx
        jnz     again
        cmpl    $ROUNDS, 0x500
        jne     wrong
        # The local APIC's timer, a thousand times a second.
        movl    $0x1ff, APIC + 0xf0     # on
        movl    $0xb, APIC + 0x3e0      # at the bus's full rate
        movl    $0x20020, APIC + 0x320  # periodic, vector 32
        movl    $1000000, APIC + 0x380
        xorl    %ebx, %ebx
waiting:
        sti
        hlt
        cli
        cmpl    $TICKS, %ebx
        jb      waiting
        movb    $0x2a, %al
        jmp     end
wrong:
        movb    $0x11, %al
end:
        outb    %al, $0xf4
        hlt
        jmp     end

# Writes the gate for %rax at %rdi.
gate:
        movw    %ax, (%rdi)
        movw    $8, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        shrl    $16, %eax
        movw    %ax, 6(%rdi)
        ret

invalid:
        incl    %ebx
        addq    $2, (%rsp)              # past ud2
        iretq

timer:
        incl    %ebx
        movl    $0, APIC + 0xb0         # end of interrupt
        iretq

        .balign 8
gdt:
        .quad   0
        .quad   0x00209a0000000000      # 64-bit code
gdtr:
        .word   15
        .long   gdt - bakeoff_test_guest_begin + BASE
idtr:
        .word   0x3ff
        .quad   IDT
bakeoff_test_guest_end:
        .popsection
