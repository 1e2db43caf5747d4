"""What the names of a table say: which side is genes, and which names on that side are no genes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["describes_samples", "genes_in_rows", "is_likely_gene", "is_likely_sample", "is_summary"]

_IDS = re.compile(
    r"ENS[A-Z]*[GT]\d{6,}(\.\d+)?(_PAR_Y)?"  # Ensembl genes and transcripts
    r"|FBGN\d{7}|WBGENE\d{8}|AT[1-5MC]G\d{5}|Y[A-P][LR]\d{3}[WC](-[A-Z])?"  # fly, worm, thale cress, yeast
    r"|[NX][MR]_\d{6,}(\.\d+)?|LOC\d{5,}|LINC\d{5}|MIR\d+[A-Z]?\d*|MT-[A-Z]{1,2}\d?[A-Z]?",
    re.IGNORECASE,
)
_SAMPLES = re.compile(
    r"GTEX-.+|K-562.*|TCGA-.+|TARGET-\d.+|[SED]R[RXS]\d{5,}.*|GSM\d{4,}.*|SAM(N|D|EA)\d+.*"
    r"|(.*[^A-Z])?[ACGT]{12,}([^A-Z].*)?"  # a barcode, with a prefix or a suffix
    r"|(SAMPLE|CELL|DONOR|PATIENT|SUBJECT|REPLICATE|REP|LANE|WELL|PLATE)[-_. ]?\d+.*",
    re.IGNORECASE,
)
_SUMMARY = re.compile(
    r"__\w+|no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique"  # HTSeq
    r"|N_(unmapped|multimapping|noFeature|ambiguous)|Assigned|Unassigned_\w+"  # STAR, featureCounts
    r"|(grand[ _]?)?(total|sum)([ _]?(counts?|reads?|umis?))?",
    re.IGNORECASE,
)
_TERMS = frozenset(
    """
    age ancestry arm assay barcode batch bmi case category cell center centre class cluster clusters cohort compound
    condition control count counts date day days death depth diagnosis diet disease donor dosage dose doublet drug
    ethnicity event experiment feature features fraction gender genes genotype grade group guide height hour hours
    individual label labels lane leiden library line louvain medication mouse organism outcome patient pct percent
    perturbation perturbations phase phenotype plate platform pool population project race recurrence relapse replicate
    response responder run sample score seurat sex site smoker smoking source species specimen stage status strain study
    subject subset subtype survival target technology time timepoint tissue treated treatment tsne type umap umis vital
    visit weight well
    """.split()  # noqa: SIM905 - as below
)
"""Terms in titles that describe samples. None is the symbol of a gene."""
_FILLERS = frozenset("at full g2m id in is mito mt n name no number of os pc ribo rna s size to total years".split())  # noqa: SIM905
"""Further parts of such titles, which alone may be names of genes."""
_KNOWN = frozenset(
    """
    A1BG A2M AARS1 ABCA1 ABCB1 ABL1 ACE ACE2 ACTA1 ACTA2 ACTB ACTG1 ADA ADAM10 ADAM17 ADH1B ADIPOQ AFP AGER AGT AHR
    AIF1 AKT1 AKT2 ALAS2 ALB ALDOA ALK ALPL AMY2A ANGPT1 ANPEP ANXA1 ANXA2 APC APOA1 APOB APOC1 APOE APP AQP1 AQP5 AR
    AREG ARG1 ARID1A ASCL1 ATF3 ATF4 ATM ATP5F1A ATR AURKA AXIN2 AXL B2M BAX BCL2 BCL6 BDNF BIRC5 BLK BMP2 BMP4 BRAF
    BRCA1 BRCA2 BTK C1QA C1QB C1QC C3 C5AR1 CA2 CALB1 CALR CASP1 CASP3 CAT CAV1 CBL CCL2 CCL3 CCL4 CCL5 CCL6 CCL9
    CCNA2 CCNB1 CCND1 CCNE1 CCR2 CCR5 CCR7 CD14 CD163 CD19 CD1C CD2 CD22 CD24 CD247 CD27 CD274 CD28 CD33 CD34 CD36
    CD38 CD3D CD3E CD3G CD4 CD40 CD40LG CD44 CD47 CD5 CD63 CD68 CD69 CD7 CD74 CD79A CD79B CD80 CD86 CD8A CD8B CD8B1
    CD9 CDC20 CDH1 CDH2 CDH5 CDK1 CDK2 CDK4 CDK6 CDKN1A CDKN2A CEACAM5 CEBPA CEBPB CFTR CHGA CLDN5 CLU COL1A1 COL1A2
    COL3A1 COL4A1 COX1 CPA3 CREB1 CSF1 CSF1R CSF2 CSF2RB CSF3R CST3 CTLA4 CTNNB1 CTSB CTSD CTSL CTSS CXCL1 CXCL10
    CXCL12 CXCL8 CXCL9 CXCR3 CXCR4 CXCR5 CYP1A1 CYP3A4 DCN DDIT3 DES DLL1 DNMT1 DNMT3A DUSP1 EEF1A1 EGF EGFR EGR1
    ELANE ENG ENO1 EOMES EP300 EPCAM EPO ERBB2 ERBB3 ESR1 EZH2 F3 FABP1 FABP4 FAS FASLG FASN FBN1 FCER1A FCER1G FCGR3A
    FCN1 FGF2 FGFR1 FGFR2 FLT1 FLT3 FN1 FOS FOSB FOXA1 FOXA2 FOXO1 FOXP3 FTH1 FTL FUS FYN G6PD GAPDH GATA1 GATA2 GATA3
    GATA4 GCG GFAP GLUL GNLY GPX1 GSTP1 GUSB GYPA GZMA GZMB GZMH GZMK H2-AB1 H2-D1 H2-K1 HBA-A1 HBA1 HBA2 HBB HBB-BS
    HDAC1 HES1 HEY1 HIF1A HK2 HLA-A HLA-B HLA-C HLA-DRA HLA-DRB1 HLA-E HMGB1 HMOX1 HNF4A HNRNPA1 HPRT1 HRAS HSP90AA1
    HSP90AB1 HSPA1A HSPA5 ICAM1 ICOS ID1 IDH1 IDO1 IFI27 IFI6 IFIT1 IFIT3 IFNB1 IFNG IFNGR1 IGF1 IGF1R IGFBP3 IGHA1
    IGHG1 IGHM IGKC IKZF1 IL10 IL1A IL1B IL2 IL2RA IL32 IL4 IL5 IL6 IL6R IL7R INS IRF1 IRF4 IRF7 IRF8 ISG15 ITGA4
    ITGAM ITGAX ITGB1 JAK1 JAK2 JCHAIN JUN JUNB KDR KIT KLF2 KLF4 KLRB1 KLRD1 KLRK1 KRAS KRT14 KRT18 KRT19 KRT5 KRT8
    LAG3 LAMP1 LCK LCN2 LDHA LDLR LEF1 LGALS1 LGALS3 LGR5 LMNA LMNB1 LST1 LTB LTF LY6C2 LY6G LYZ LYZ1 LYZ2 MALAT1
    MAPK1 MAPK14 MAPK3 MBP MCL1 MDM2 MEF2C MET MKI67 MLH1 MME MMP2 MMP9 MPO MRC1 MS4A1 MSH2 MSLN MTOR MUC1 MX1 MYC
    MYCN MYD88 MYH11 MYH7 MYOD1 NANOG NCAM1 NEAT1 NES NF1 NFKB1 NFKBIA NKG7 NKX2-1 NOTCH1 NPM1 NRAS NRXN1 NT5E OAS1
    OLIG2 PAX5 PAX6 PCNA PDCD1 PDGFRA PDGFRB PECAM1 PF4 PGK1 PGR PIK3CA PLP1 POLR2A POU5F1 PPARG PPBP PPIA PRDM1 PRF1
    PROM1 PTEN PTPRC PTPRCAP RB1 RHOA RPL13A RPLP0 RPS18 RPS27A RPS6 RUNX1 RUNX2 RUNX3 S100A4 S100A8 S100A9 SDC1 SDHA
    SELL SFTPA1 SFTPC SIRT1 SLC2A1 SMAD2 SMAD3 SMAD4 SNAI1 SOD1 SOX10 SOX2 SOX9 SPI1 SPP1 SRC STAT1 STAT3 STAT4 STAT5A
    STAT6 SYP TAGLN TBP TBX21 TCF4 TCF7 TERT TFRC TGFB1 TGFBR2 THY1 TIGIT TIMP1 TLR2 TLR4 TMSB4X TNF TNFAIP3 TNFRSF1A
    TOP2A TOX TP53 TP63 TPM1 TPSAB1 TRAC TRBC1 TREM2 TRP53 TRP63 TTN TTR TUBA1A TUBB TUBB3 TYROBP UBB UBC UBE2C VCAM1
    VEGFA VIM VWF WNT5A WT1 XBP1 XIST YWHAZ ZAP70 ZEB1 ZEB2 ZFP36
    """.split()  # noqa: SIM905 - 500 quotes and commas would hide the names
)
"""Symbols of well-known genes of human and, apart from case, mouse (HGNC and MGI)."""


def is_likely_gene(name: str) -> bool:
    """Return whether a name is a gene id, or the symbol of a well-known gene."""
    return name.upper() in _KNOWN or _IDS.fullmatch(name) is not None


def is_likely_sample(name: str) -> bool:
    """Return whether a name is a barcode, an id of a known study or archive, or numbered."""
    return _SAMPLES.fullmatch(name) is not None


def is_summary(name: str) -> bool:
    """Return whether a name is that of a sum over reads that programs write below the genes, as ``__no_feature``."""
    return _SUMMARY.fullmatch(name) is not None


def describes_samples(name: str) -> bool:
    """Return whether a name in the place of a gene is a title of metadata, such as ``age``, or a summary.

    >>> [describes_samples(name) for name in ("Age (years)", "cellType", "BMI1", "__no_feature")]
    [True, True, False, True]
    """
    parts: list[str] = []
    for piece in re.findall(r"[A-Za-z0-9]+", name):
        parts += re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", piece) if piece.isalpha() else [piece]
    terms = [part.lower() for part in parts]
    known = all(term in _TERMS or term in _FILLERS or term.isdecimal() for term in terms)
    return is_summary(name) or (known and any(term in _TERMS for term in terms))


def genes_in_rows(rows: Sequence[str], columns: Sequence[str], n_rows: Callable[[], int]) -> bool:
    """Return whether the rows of a table are genes, and its columns samples.

    Names are genes if three of them, or more than 5 %, look like genes, and samples if most look like samples. If that
    does not distinguish rows and columns, the longer side is taken as genes, since bulk tables have more genes than
    samples; if they are equally long, the columns.

    Parameters
    ----------
    rows
        Names of the first rows.
    columns
        Names of the columns.
    n_rows
        Function that counts the rows; called if needed.
    """
    by_row, by_column = _kind_of_names(rows), _kind_of_names(columns)
    return by_row > by_column if by_row != by_column else n_rows() > len(columns)


def _kind_of_names(names: Sequence[str]) -> int:
    """Return 1 for genes, −1 for samples, 0 for neither."""
    n_genes = sum(map(is_likely_gene, names))
    if n_genes >= 3 or n_genes * 20 > len(names):
        return 1
    return -1 if sum(map(is_likely_sample, names)) * 2 > len(names) else 0
